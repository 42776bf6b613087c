"""What everything in a run shares: the spec, the samples, the executor, and how far the run is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from charpy.interfaces.dataset import Dataset, Samples
from charpy.interfaces.executor import Executor
from charpy.plugins import Registry
from charpy.specs import RunSpec
from charpy.stages import Progress, Watch


@dataclass
class Site:
    """What every walk of a run shares: the spec, the samples, the executor, and how far the run is."""

    spec: RunSpec
    registry: Registry
    data: Dataset
    indices: list[int]
    executor: Executor
    listen: Callable[[Progress], None] | None = None
    done: int = 0
    planned: int = 0
    own: dict[str, tuple[int, ...]] = field(default_factory=dict)
    """By norm, each sample's own level, where a threat has such."""
    watch: Watch = field(default_factory=Watch)
    named: bool = True
    """Whether the spec says how to open the models and the data; False of Python objects that were handed over."""

    def shards(self) -> list[list[int]]:
        """Positions in `indices`, in pieces of `spec.shard`."""
        positions = list(range(len(self.indices)))
        return [positions[i : i + self.spec.shard] for i in range(0, len(positions), self.spec.shard)]

    def read(self, positions: Sequence[int]) -> Samples:
        """The samples at these positions of the run."""
        return self.data.read([self.indices[position] for position in positions])

    def tell(self, share: float, title: str) -> None:
        """Report progress."""
        if self.listen is not None:
            self.listen(Progress(self.done, max(self.planned, self.done + 1 if share else self.done), share, title))

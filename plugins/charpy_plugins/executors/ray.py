"""Units on the workers of a Ray cluster (Moritz et al., OSDI 2018): an existing one by address, or a local one."""

from __future__ import annotations

import os
import pickle
import socket
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from charpy.errors import PluginError, SpecError
from charpy.interfaces import component
from charpy.interfaces.executor import Executor, Lost, Outcome, Unit

LOOK_SECONDS = 0.5
"""How long the driver waits for a result before it looks after its workers."""

AHEAD = 2
"""Units that a worker holds: while the driver writes one result, the worker is at the next."""

TRIES = 2
"""How often a unit may take its worker with it before it is lost."""


class Ray(Executor):
    """Computes units on the workers of a Ray cluster; the driver alone writes, and a dead worker's unit is tried again.

    Every worker opens the data and the models itself, once, and must find the same there. Whoever reaches a Ray cluster
    can run code on it: use it in a trusted network only (docs/cluster.md).
    """

    class Params(component.Params):
        """Where, and how many."""

        address: str | None = component.param(
            None, description="of an existing cluster, such as `auto` or `ray://host:10001`; a local one if not given"
        )
        workers: int | None = component.param(
            None, ge=1, le=4096, description="processes that compute; one for each CPU if not given", source="ours"
        )
        cpus: float = component.param(1.0, ge=0, description="of a worker", unit="CPUs", source="ours")
        gpus: float = component.param(
            0.0, ge=0, description="of a worker; 0.5 lets two share one", unit="GPUs", source="ours"
        )

    def __init__(self, params: Any = None) -> None:
        super().__init__(params)
        self._pool: _Pool | None = None

    def map(self, compute: Callable[[Unit], Outcome], units: Iterable[Unit]) -> Iterator[tuple[Unit, Outcome | Lost]]:
        """Each unit with its result, in the order of `units`; several are computed at a time."""
        waiting = deque(enumerate(units))
        if not waiting:
            return
        if self._pool is None:
            self._pool = _Pool(self.params)
        order = [unit for _, unit in waiting]
        results: dict[int, Any] = {}
        pool, work = self._pool, pickle.dumps(compute)
        pool.begin(work)
        for place, unit in enumerate(order):
            while place not in results:
                pool.feed(waiting)
                results.update(pool.gather(self.unit_seconds))
                self.alive()
            yield unit, results.pop(place)

    def close(self) -> None:
        """Let the workers go, and a local cluster end."""
        if self._pool is not None:
            self._pool.close()
            self._pool = None


@dataclass
class _Worker:
    actor: Any
    held: dict[Any, tuple[int, Any]] = field(default_factory=dict)
    """Reference -> place and unit, in the order in which they are computed."""
    greeting: Any = None
    """Reference that is there once the worker has opened what it computes with."""
    began: float = 0.0
    """When it began with the first unit that it holds."""


class _Pool:
    """The workers of one run, and what each of them is at."""

    def __init__(self, params: Any) -> None:
        self._ray, self._params = _ray(), params
        self._own = not self._ray.is_initialized()
        if self._own:
            _connect(self._ray, params)
        options = {"num_cpus": params.cpus, "num_gpus": params.gpus, "max_restarts": 0}
        self._kind = self._ray.remote(**options)(_Computer)
        self._work: Any = None
        self._deaths: dict[int, list[str]] = {}
        self._again: deque[tuple[int, Any]] = deque()
        self._done: dict[int, Any] = {}
        self._workers = [self._new() for _ in range(self._count())]

    def _count(self) -> int:
        if self._params.workers is not None:
            return int(self._params.workers)
        resources = self._ray.cluster_resources()
        fits = [resources.get("CPU", 1.0) / self._params.cpus] if self._params.cpus else []
        fits += [resources.get("GPU", 0.0) / self._params.gpus] if self._params.gpus else []
        count = int(min(fits, default=1.0))
        if count < 1:
            raise SpecError(
                "the cluster has no place for a worker",
                where="executor.params",
                found=f"{resources.get('CPU', 0):g} CPUs and {resources.get('GPU', 0):g} GPUs",
                expected=f"{self._params.cpus:g} CPUs and {self._params.gpus:g} GPUs for each worker",
            )
        return count

    def _new(self) -> _Worker:
        worker = _Worker(self._kind.remote())
        self._greet(worker)
        return worker

    def _greet(self, worker: _Worker) -> None:
        worker.greeting = worker.actor.open.remote(self._work) if self._work else None

    def begin(self, work: bytes) -> None:
        """What the next units are computed with."""
        self._work = self._ray.put(work)
        self._deaths.clear()
        for worker in self._workers:
            self._greet(worker)

    def feed(self, waiting: deque[tuple[int, Any]]) -> None:
        """Give units to those that hold fewer than `AHEAD`, the idle ones first."""
        for worker in sorted(self._workers, key=lambda one: len(one.held)):
            while len(worker.held) < AHEAD and (self._again or waiting):
                place, unit = self._again.popleft() if self._again else waiting.popleft()
                if not worker.held:
                    worker.began = time.monotonic()
                worker.held[worker.actor.compute.remote(self._work, unit)] = (place, unit)

    def gather(self, unit_seconds: float | None) -> dict[int, Any]:
        """The results that are there by now, by place; looks after who died or takes too long."""
        references = {reference: worker for worker in self._workers for reference in worker.held}
        first, others = self._ray.wait(list(references), num_returns=1, timeout=LOOK_SECONDS)
        done = first + (self._ray.wait(others, num_returns=len(others), timeout=0)[0] if others else [])
        for reference in done:
            worker = references[reference]
            if reference not in worker.held:
                continue  # its worker died a moment ago
            try:
                self._done[worker.held[reference][0]] = self._ray.get(reference)
            except self._ray.exceptions.RayActorError as cause:
                self._bury(worker, _first_line(cause))
            except self._ray.exceptions.RayTaskError as failed:
                raise (failed.cause if isinstance(failed.cause, Exception) else failed) from None
            else:
                del worker.held[reference]
                worker.began = time.monotonic()
        if unit_seconds is not None:
            self._end_the_late(unit_seconds)
        found, self._done = self._done, {}
        return found

    def _end_the_late(self, unit_seconds: float) -> None:
        for worker in self._workers:
            if worker.greeting is not None and self._ray.wait([worker.greeting], timeout=0)[0]:
                worker.greeting, worker.began = None, time.monotonic()
            if worker.held and worker.greeting is None and time.monotonic() - worker.began > unit_seconds:
                self._ray.kill(worker.actor)
                self._bury(worker, f"it took longer than {unit_seconds:g} s (limits.unit_seconds)")

    def _bury(self, worker: _Worker, why: str) -> None:
        """Of what a dead worker held, the first is what it died of; the others only wait again."""
        (place, unit), *others = worker.held.values()
        worker.held.clear()
        whys = self._deaths.setdefault(place, [])
        whys.append(why)
        if len(whys) >= TRIES:
            self._done[place] = Lost(f"the worker did not survive it, twice: {why}")
            self._again.extendleft(reversed(others))
        else:
            self._again.extendleft(reversed([(place, unit), *others]))
        self._workers[self._workers.index(worker)] = self._new()

    def close(self) -> None:
        """Every worker ends; a cluster that was begun here, too."""
        for worker in self._workers:
            self._ray.kill(worker.actor)
        if self._own:
            self._ray.shutdown()


class _Computer:
    """In a worker: unpickles what computes once, then computes."""

    def __init__(self) -> None:
        self._work: tuple[bytes, Any] = (b"", None)

    def open(self, work: bytes) -> None:
        """Open what the next units need."""
        if work != self._work[0]:
            self._work = (work, pickle.loads(work))

    def compute(self, work: bytes, unit: Any) -> Any:
        """The result of one unit."""
        self.open(work)
        return self._work[1](unit)


def _ray() -> Any:
    try:
        import ray
    except ImportError:
        raise PluginError(
            "the executor `ray` needs a package that is not installed",
            where="executor",
            found="no package ray",
            hint="pip install 'charpy[cluster]'",
        ) from None
    return ray


def _connect(ray: Any, params: Any) -> None:
    environment = {"env_vars": {"OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1")}}
    options: dict[str, Any] = {"log_to_driver": False, "configure_logging": False, "runtime_env": environment}
    if params.address is None:
        options |= {"include_dashboard": False, "num_cpus": params.workers or os.cpu_count() or 1}
    elif params.address != "auto":
        _knock(params.address)
    try:
        ray.init(address=params.address or "local", **options)
    except (ConnectionError, RuntimeError, ValueError) as cause:
        raise _unreachable(params.address, _first_line(cause)) from None


def _knock(address: str) -> None:
    """Whether anybody listens there: Ray itself asks for two minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdecimal():
        raise _unreachable(address, "no host and port")
    try:
        socket.create_connection((host, int(port)), timeout=10).close()
    except (OSError, OverflowError) as cause:
        raise _unreachable(address, str(cause)) from None


def _unreachable(address: str | None, found: str) -> SpecError:
    return SpecError(
        "the cluster cannot be reached",
        where="executor.params.address",
        found=f"{address}: {found}",
        expected="`auto`, host:port, ray://host:10001, or nothing for a local cluster",
        hint="`ray status` on its head says whether it runs",
    )


def _first_line(cause: BaseException) -> str:
    lines = [line.strip() for line in str(cause).splitlines() if line.strip()]
    return lines[0] if lines else type(cause).__name__

"""Random pixels in random corner colours: the simplest attack on a model that only gives labels."""

from charpy.interfaces.attack import Attack, Task
from charpy.interfaces.component import Params, param
from charpy.threat import Access, Norm


class CornerPixels(Attack):
    """Overwrites random pixels with random corners of the colour cube, until the label changes (L0)."""

    norms = frozenset({Norm.L0})
    access = Access.LABELS

    class Params(Params):
        """How many colours are tried at one place."""

        colours: int = param(4, ge=1, description="colours tried at the same places", unit="images", source="ours")

    def run(self, task: Task) -> None:
        """Ask for new places and colours while any sample is still worth a query."""
        _, channels, height, width = task.images.shape
        places, colours = task.random.fork("places"), task.random.fork("colours")
        draw = 0
        while task.oracle.active.any():
            rows = task.oracle.active.nonzero()[:, 0]
            noise = places.uniform(rows, draw // self.params.colours, height * width)
            chosen = noise.topk(task.threat.th).indices[:, None].expand(-1, channels, -1)
            corners = colours.integers(rows, draw, 2, channels, task.threat.th).float()
            candidates = task.images[rows].flatten(2).scatter(2, chosen, corners)
            task.oracle.labels(candidates.view(-1, channels, height, width), rows)
            draw += 1

"""What charpy finds through the entry point: names and import strings, so that a listing imports nothing else."""

from charpy.hookspecs import hookimpl


@hookimpl
def charpy_attacks() -> dict[str, str]:
    """Attacks by kind."""
    return {"corner_pixels": "charpy_corner_attack.corner_pixels:CornerPixels"}


@hookimpl
def charpy_metrics() -> dict[str, str]:
    """Metrics by kind."""
    return {"changed_share": "charpy_corner_attack.changed_share:ChangedShare"}


@hookimpl
def charpy_defenses() -> dict[str, str]:
    """Defences by kind."""
    return {"bit_reduction": "charpy_corner_attack.bit_reduction:BitReduction"}


@hookimpl
def charpy_datasets() -> dict[str, str]:
    """Datasets by kind."""
    return {"shades": "charpy_corner_attack.shades:Shades"}


@hookimpl
def charpy_models() -> dict[str, str]:
    """Models by kind."""
    return {"brightness": "charpy_corner_attack.brightness:Brightness"}

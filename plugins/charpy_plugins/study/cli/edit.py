"""`charpy study edit`: paint stimuli by hand, with the model's live scores."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from charpy.errors import DataError, SpecError
from charpy.plugins import registry
from charpy.reports.inert import visible

if TYPE_CHECKING:
    from charpy_plugins.study.editor.session import EditSession


def edit(
    study: Path,
    /,
    *,
    condition: str | None = None,
    model: str | None = None,
    another_model: bool = False,
    norm: Literal["l0", "l1", "l2", "linf"] | None = None,
    level: float | None = None,
    budget: str | None = None,
    out: Path | None = None,
    host: str = "127.0.0.1",
    port: int = 0,
) -> int:
    """Paint stimuli by hand, in the browser, with the model's live scores.

    Prints an address that works once. Every benign stimulus of the study can be painted over; what is saved is judged
    anew: it is misclassified within the budget, as a PNG of every size too. Ctrl-C ends it.

    Args:
        study: study file of `charpy study build`; every save writes it.
        condition: the painted condition; made where the study has none of this name. Default: the only one, or painted.
        model: what is to be fooled. Default: the model of the study.
        another_model: allow a model that is not the one of the study.
        norm: how a painting is measured. Default: as the study says.
        level: the most that may be changed: pixels for l0, 1/255 steps otherwise. Default: as the study says.
        budget: instead, a share of the pixels, such as 15%.
        out: paint in a copy that is written here.
        host: address of this machine.
        port: 0 for any that is free.
    """
    _check_installed()
    from charpy_plugins.study.editor.server import Service

    session = _session(study, condition, model, another_model, norm, level, budget, out)
    service = Service(session, host, port)
    if out is not None:
        print(visible(f"painting in a copy: {out}"), file=sys.stderr)
    if host not in {"127.0.0.1", "localhost", "::1"}:
        print("others on this network can reach the pages, unencrypted; the address below is the key", file=sys.stderr)
    print(f"open {service.url}\n(it works once; Ctrl-C ends)", file=sys.stderr, flush=True)
    service.run()
    items = session.items()
    painted = sum(item.painted is not None for item in items)
    print(visible(f"{session.path}: {painted} of {len(items)} originals are painted in {session.name!r}"))
    return 0


def _session(
    study: Path,
    condition: str | None,
    model: str | None,
    another: bool,
    norm: str | None,
    level: float | None,
    budget: str | None,
    out: Path | None,
) -> EditSession:
    import torch

    from charpy_plugins.study.editor.budget import budget_of, threat_model
    from charpy_plugins.study.editor.conditions import benign_of, name_of, painted_in
    from charpy_plugins.study.editor.disk import check_thawed
    from charpy_plugins.study.editor.display import from_png
    from charpy_plugins.study.editor.model import PaintModel
    from charpy_plugins.study.editor.session import EditSession
    from charpy_plugins.study.studyfile import read_study

    if out is None:
        check_thawed(study)
    found = read_study(study)
    document = found.document
    name = name_of(document, condition)
    painted_in(document, name)
    threat = budget_of(document, norm, level, budget)
    threat_model(threat)
    originals = [
        from_png(found.images[one.id, 1], document.source.shape) for one in document.of(benign_of(document).name)
    ]
    opened = PaintModel(document.source, model, torch.stack(originals), registry(), another=another)
    return EditSession(study if out is None else _copied(study, out), name, threat, opened)


def _copied(study: Path, out: Path) -> Path:
    """A copy at `out`, which is not there yet."""
    try:
        with out.open("xb") as file:
            file.write(study.read_bytes())
    except OSError as cause:
        raise DataError(
            "no copy can be written",
            where=f"--out {out}",
            found=cause.strerror,
            expected="a new file",
            hint="`charpy study edit` with that file goes on with a copy made before",
        ) from None
    return out


def _check_installed() -> None:
    from importlib.util import find_spec

    missing = [name for name in ("flask", "flask_wtf", "waitress") if find_spec(name) is None]
    if missing:
        raise SpecError(
            "the pages need packages that are not installed",
            found=f"no {', '.join(missing)}",
            expected="flask, flask-wtf and waitress",
            hint="pip install 'charpy[study]'",
        )

"""`assert_robust`: a model's robustness as an assertion in a test."""

from __future__ import annotations

import shutil
import tempfile
import weakref
from inspect import signature
from pathlib import Path
from typing import TYPE_CHECKING, Any

from charpy.errors import unknown_name
from charpy.reports.inert import visible

if TYPE_CHECKING:
    from charpy.api import Result

WHERE = "assert_robust"

FIGURES = ("robust_accuracy", "proven")
"""Of which more is better: at least so much of another would be an assertion of weakness."""

REPORTS = ("report.html", "report.json")
"""What is saved beside the run file."""

FIXED = {"norms": "norm", "levels": "th"}
"""Arguments of `charpy.assess` that are not taken, and what says the same."""


def assert_robust(
    model: object,
    images: Any = None,
    labels: Any = None,
    *,
    norm: str = "linf",
    th: int = 3,
    at_least: float = 0.5,
    figure: str = "robust_accuracy",
    even_if_weak: bool = False,
    out: str | Path | None = None,
    **settings: Any,
) -> Result:
    """Assess `model` and raise `AssertionError` unless its robust accuracy is at least `at_least`.

    The lower bound of the 95 % interval is judged, as by a gate (docs/ci.md): few images need a large margin, and weak
    or invalid evidence does not pass.

    Args:
        model: as of `charpy.assess`.
        images: as of `charpy.assess`.
        labels: as of `charpy.assess`.
        norm: of the level.
        th: the level: pixels under l0, 1/255 steps under the other norms.
        at_least: share of all images, above 0 and at most 1.
        figure: `robust_accuracy`: what was not broken; `proven`: what is proven (give `certify=SECONDS`, too).
        even_if_weak: whether weak evidence may pass.
        out: folder of run.charpy and the reports. Default: a new temporary one, which is kept where the assertion
            fails.
        settings: of `charpy.assess`, such as `queries=1000`, `battery="fast"`, `seed=1`, `certify=30`.

    Returns:
        The result, to look further.

    Raises:
        AssertionError: the gate failed, or work was lost; the message has the verdict, the number of witnesses and
            where the report is.
        SpecError: `at_least`, `norm`, `th` or `figure` is none.
        UnknownNameError: nothing is called so among the arguments; the nearest are named.
        DataError, ModelError: as `charpy.assess`.
    """
    __tracebackhide__ = True
    import charpy
    from charpy.analysis.gates import judged
    from charpy.errors import SpecError
    from charpy.gates import gate_of

    if figure not in FIGURES:
        raise SpecError("no figure of robustness", where=WHERE, found=repr(figure), expected=" or ".join(FIGURES))
    if not isinstance(at_least, int | float):
        raise SpecError("no share", where=WHERE, found=repr(at_least)[:100], expected="a number above 0 and at most 1")
    known = {*signature(assert_robust).parameters, *signature(charpy.assess).parameters} - {"settings", *FIXED}
    for name in settings:
        if name not in known:
            hint = f"the level is `{FIXED[name]}`" if name in FIXED else ""
            raise unknown_name("argument", name, known, where=WHERE, hint=hint)
    text = f"{norm} th={th} {figure} >= {at_least:.10f}" + (" even if weak" if even_if_weak else "")
    gate = gate_of(text, WHERE)
    folder = Path(out) if out is not None else Path(tempfile.mkdtemp(prefix="charpy-"))
    try:
        result = charpy.assess(model, images, labels, norms=[norm], levels=[th], out=folder, **settings)
    except BaseException:
        if out is None:
            shutil.rmtree(folder, ignore_errors=True)
        raise
    (assessment,) = judged([result.assessment], [gate], finished=True)
    (part,) = assessment.gates
    passed = part.passed and not assessment.lost  # as for a command, which would not exit with 0
    if passed and out is None:
        weakref.finalize(result, shutil.rmtree, folder, ignore_errors=True)
        return result
    saved = [result.save(folder / name, gates=[gate]) for name in REPORTS]
    if not passed:
        lost = [f"lost: {part.what}, {part.samples} samples: {part.reason}" for part in assessment.lost]
        raise AssertionError(_message("\n".join([f"{part.gate}: {part.reason}", *lost]), result, saved[0]))
    return result


def _message(why: str, result: Result, report: Path) -> str:
    (threat,) = result.assessment.threats
    count, correct = threat.broken, threat.broken + threat.held + threat.proven
    witnesses = (
        f"{count} witness{'' if count == 1 else 'es'}: {count} of {correct} correctly classified images are broken"
    )
    return visible(f"{why}\n{witnesses}\nreport: {report}\n{result}", keep="\n")

"""Models of single answers that know who gave them, by statsmodels: mixed for accuracy, ordinal for confidence."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from charpy.errors import PluginError
from charpy_plugins.study.analysis.trials import Trials

HINT = "pip install 'charpy[study]'"
PERSON, ORIGINAL, REACTION = "participant", "original", "original x condition"


class Fitted(NamedTuple):
    """An effect, second condition minus first, with its error and two-sided p; or None, and the reason."""

    estimate: float | None
    error: float | None
    p: float | None
    reason: str = ""
    note: str = ""


def mixed(first: Trials, second: Trials) -> Fitted:
    """A linear mixed model of correct answers, with crossed random effects, by restricted maximum likelihood.

    correct = mean + condition + participant + original + original x condition: the last one lets each original react to
    a condition in its own way (Judd, Westfall & Kenny 2012). The effect is a difference of shares, by Wald's z.
    """
    from_statsmodels("regression.mixed_linear_model")
    correct = np.concatenate([first.values("accuracy"), second.values("accuracy")])
    if reason := _too_little(first, second) or _one_value(correct, "every answer is correct, or none is"):
        return Fitted(None, None, None, reason)
    return _guarded(lambda: _mixed(first, second, correct))


def ordinal(first: Trials, second: Trials) -> Fitted:
    """A proportional-odds model of confidence 1 to 5 (McCullagh 1980), with errors clustered by participants.

    The effect is a difference of log odds of a higher confidence; the sandwich covariance of Liang & Zeger (1986)
    lets answers of one participant be alike.
    """
    from_statsmodels("miscmodels.ordinal_model")
    chosen = np.concatenate([first.confidence, second.confidence])
    if reason := _too_little(first, second) or _one_value(chosen, "all answers have the same confidence"):
        return Fitted(None, None, None, reason)
    if first.confidence.max() <= second.confidence.min() or second.confidence.max() <= first.confidence.min():
        return Fitted(None, None, None, "all confidence of one condition is above the other's: the odds have no bound")
    return _guarded(lambda: _ordinal(first, second, chosen))


def from_statsmodels(module: str) -> Any:
    """A module of statsmodels.

    Raises:
        PluginError: it is not installed.
    """
    import importlib

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of its own imports
            return importlib.import_module(f"statsmodels.{module}")
    except ImportError as cause:
        raise PluginError("this analysis needs statsmodels", found=cause, hint=HINT) from None


def _mixed(first: Trials, second: Trials, correct: Any) -> Fitted:
    models = from_statsmodels("regression.mixed_linear_model")
    condition = _condition(first, second)
    design = np.column_stack([np.ones(len(correct)), condition])
    people = np.concatenate([first.participant, second.participant + len(first.participants)])
    originals = np.concatenate([first.original, second.original])
    residual = correct - np.where(condition > 0, correct[condition > 0].mean(), correct[condition == 0].mean())
    variances = _moments(residual, people, originals, condition)
    if not variances:
        return Fitted(None, None, None, "neither participants nor originals differ more than by chance")
    by_original = _columns(originals)
    columns = {PERSON: _columns(people), ORIGINAL: by_original, REACTION: by_original * (condition[:, None] - 0.5)}
    effects = [columns[name] for name in variances]
    spec = models.VCSpec(
        list(variances), [[[str(at) for at in range(each.shape[1])]] for each in effects], [[each] for each in effects]
    )
    rest = max(float(residual.var()) - sum(variances.values()), 0.1 * float(residual.var()))
    start = models.MixedLMParams.from_components(
        fe_params=np.linalg.lstsq(design, correct, rcond=None)[0], vcomp=np.array(list(variances.values())) / rest
    )
    model = models.MixedLM(correct, design, groups=np.zeros(len(correct)), exog_vc=spec)
    fit = model.fit(reml=True, method=["bfgs", "powell"], start_params=start)
    if not fit.converged:
        return Fitted(None, None, None, "the mixed model did not converge")
    return _checked(float(fit.fe_params[1]), float(fit.bse_fe[1]), f"random effects: {', '.join(variances)}")


def _moments(residual: Any, people: Any, originals: Any, condition: Any) -> dict[str, float]:
    """The variance of each random effect, from products of residuals that share it; those at or below 0 are left out.

    A search that starts elsewhere ends at the edge of the parameters, with an error several times too large, or not
    at all; a component of no variance has no place in it.
    """
    square = float((residual**2).mean())
    cells = originals * 2 + condition.astype(np.intp)
    both = _shared(residual, originals, cells)
    found = {PERSON: _shared(residual, people), ORIGINAL: both, REACTION: 2 * (_shared(residual, cells) - both)}
    return {name: value for name, value in found.items() if value > 1e-4 * square}


def _shared(residual: Any, groups: Any, apart: Any = None) -> float:
    """Mean product of two residuals of one group, and, with `apart`, of different parts of it; 0 without such pairs."""
    groups = np.unique(groups, return_inverse=True)[1]
    inner = np.arange(len(groups)) if apart is None else np.unique(apart, return_inverse=True)[1]
    owner = np.zeros(inner.max() + 1, dtype=np.intp)
    owner[inner] = groups
    size, total = np.bincount(inner), np.bincount(inner, residual)
    sizes, totals = np.bincount(owner, size), np.bincount(owner, total)
    pairs = (sizes**2).sum() - (size.astype(float) ** 2).sum()
    return float(((totals**2).sum() - (total**2).sum()) / pairs) if pairs > 0 else 0.0


def _ordinal(first: Trials, second: Trials, chosen: Any) -> Fitted:
    models = from_statsmodels("miscmodels.ordinal_model")
    people = np.concatenate([first.participant, second.participant + len(first.participants)])
    condition = _condition(first, second)[:, None]
    values = np.unique(chosen, return_inverse=True)[1]
    model = models.OrderedModel(values, condition, distr="logit")
    fit = model.fit(method="bfgs", maxiter=500, disp=0, cov_type="cluster", cov_kwds={"groups": people})
    if not fit.mle_retvals["converged"]:
        return Fitted(None, None, None, "the ordinal model did not converge")
    return _checked(
        float(fit.params[0]), float(fit.bse[0]), f"{values.max() + 1} of 5 values of confidence were chosen"
    )


def _guarded(fit: Callable[[], Fitted]) -> Fitted:
    """What statsmodels raises or computes out of nothing becomes a reason; its warnings are judged by the result."""
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        try:
            return fit()
        except (np.linalg.LinAlgError, ValueError, FloatingPointError, ZeroDivisionError) as cause:
            return Fitted(None, None, None, f"the model could not be fitted: {cause}")


def _checked(estimate: float, error: float, note: str) -> Fitted:
    from scipy.stats import norm

    if not (np.isfinite(estimate) and np.isfinite(error) and error > 0):
        return Fitted(None, None, None, "the fitted model has no finite error")
    return Fitted(estimate, error, float(2 * norm.sf(abs(estimate) / error)), note=note)


def _too_little(first: Trials, second: Trials) -> str:
    fewest = min(len(first.participants), len(second.participants))
    return "" if fewest > 1 else "fewer than two participants in a condition"


def _one_value(values: Any, reason: str) -> str:
    return "" if values.min() < values.max() else reason


def _condition(first: Trials, second: Trials) -> Any:
    return np.concatenate([np.zeros(len(first.original)), np.ones(len(second.original))])


def _columns(codes: Any) -> Any:
    """`(N, K)` 1 in the column of each row's code."""
    _, at = np.unique(codes, return_inverse=True)
    return (at[:, None] == np.arange(at.max() + 1)).astype(float)

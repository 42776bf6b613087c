"""Each check of the attack contract fails on an attack that breaks it; an honest one passes them all."""

from __future__ import annotations

import random
from typing import ClassVar

import numpy as np
import pytest
import torch
from pydantic import ConfigDict

from charpy.interfaces.attack import Attack, Family
from charpy.interfaces.component import Params as BaseParams
from charpy.interfaces.component import param
from charpy.testing import AttackContract, Contract
from charpy.threat import Access, Goal, Norm


class Signs(Attack):
    """Flips drawn signs of a corner of the Linf ball, and keeps what helps."""

    norms = frozenset({Norm.LINF})
    access = Access.SCORES
    source = "ours"

    class Params(BaseParams):
        """How much is flipped at a time."""

        share: float = param(0.05, gt=0, lt=1, description="of the signs that is flipped", source="ours")

    def start(self, task):
        return (
            task.random.fork("start").uniform(torch.arange(len(task.images)), 0, *task.images.shape[1:]) < 0.5
        ) * 2.0 - 1

    def shown(self, task, signs, rows):
        return (task.images[rows] + task.threat.radius * signs).clamp(0, 1)

    def ask(self, task, candidates, rows):
        return task.oracle.fitness(candidates, rows)

    def go_on(self, task):
        return bool(task.oracle.active.any())

    def rows(self, task):
        return task.oracle.active.nonzero()[:, 0]

    def flips(self, task, rows, draw, shape):
        return task.random.fork("flips").uniform(rows, draw, *shape) < self.params.share

    def run(self, task):
        signs, best, draw = self.start(task), torch.full((len(task.images),), torch.inf), 0
        while self.go_on(task):
            rows = self.rows(task)
            tried = torch.where(self.flips(task, rows, draw, signs.shape[1:]), -signs[rows], signs[rows])
            fitness = self.ask(task, self.shown(task, tried, rows), rows)
            better = fitness < best[rows]
            signs[rows[better]], best[rows[better]] = tried[better], fitness[better]
            draw += 1


class Honest(AttackContract):
    component = Signs
    factor = 1.5
    randomised = True
    effects: ClassVar = {"share": 0.3}
    queries = 1000


def liar(**methods):
    """The honest attack with some methods of another's."""
    return type("Liar", (Signs,), {"__doc__": "Lies about one thing.", **methods})


def rewritten(run=None, *, before=None, after=None):
    """`Signs.run` with something done before or after it."""

    def other(self, task):
        if before:
            before(self, task)
        Signs.run(self, task)
        return after(self, task) if after else None

    return liar(run=run or other)


def past_the_ball(self, task):
    return task.images + 2 * task.threat.radius


def peek(self, task):
    task.oracle._engine.model.predict(task.images)


def ask_on(self, task):
    for _ in range(20):
        task.oracle.labels(task.images, torch.arange(len(task.images)))


def gradient(self, task):
    if len(task.images):
        task.oracle.loss_and_gradient(task.images, torch.arange(len(task.images)))


def crash_when(condition, text):
    def before(self, task):
        if condition(task):
            raise ValueError(text)

    return rewritten(before=before)


def batch_signs(self, task):
    return Signs.start(self, task) * (1 if float(task.images[0].sum()) > 37 else -1)


class Memory(Signs):
    """Remembers the run before."""

    runs = 0

    def start(self, task):
        self.runs += 1
        return Signs.start(self, task) * (-1) ** self.runs


class Loose(BaseParams):
    """Not documented."""

    share: float = 0.05


class Unsourced(BaseParams):
    """No source."""

    share: float = param(0.05, gt=0, lt=1, description="of the signs that is flipped")


class Forgiving(Signs.Params):
    """Ignores what it does not know."""

    model_config = ConfigDict(extra="ignore")


def loop_forever(self, task):
    while True:
        task.oracle.labels(task.images, torch.arange(len(task.images)))


def nan_rows(self, task, signs, rows):
    return Signs.shown(self, task, signs, rows) * torch.nan


def everything(self, task, signs, rows):
    return (task.images[rows] + 3 * task.threat.radius * signs).clamp(0, 1)


def write(self, task):
    task.images.zero_()


def cook(self, task):
    task.oracle._ledger.success.fill_(1)


def drawn_anywhere(self, task):
    return torch.rand(task.images.shape).sub(0.5).sign()


def deaf(self, task, rows, draw, shape):
    return task.random.uniform(rows, draw, *shape) < 0.1


def also_the_finished(self, task):
    active = task.oracle.active
    return torch.cat([active.nonzero()[:, 0], (~active).nonzero()[:, 0].repeat(9)])


def odd(self, task):
    return Signs.start(self, task) * (-1) ** len(task.images)


def hurry(self, task):
    return bool(task.oracle.active.any()) and task.targets is None


def claim_of_nan(self, task):
    return task.images * 0.9 if bool(task.oracle.recorded().invalid.any()) else None


def claim_at_one(self, task):
    return task.images * 0.9 if task.threat.radius == 1.0 else None


LIARS = {
    "test_declares_what_it_is": (liar(goals=frozenset()), {}),
    "test_has_a_summary": (liar(__doc__="no sentence"), {}),
    "test_every_parameter_is_documented": (liar(Params=Loose), {}),
    "test_every_parameter_names_its_source": (liar(Params=Unsourced), {}),
    "test_unknown_parameters_are_refused": (liar(Params=Forgiving), {}),
    "test_effects_name_parameters": (Signs, {"effects": {"shares": 1}}),
    "test_breaks_a_linear_model_within_its_factor": (liar(ask=lambda self, task, *row: -task.oracle.fitness(*row)), {}),
    "test_spends_no_row_beyond_the_budget": (rewritten(loop_forever), {}),
    "test_asks_the_model_through_the_oracle_alone": (rewritten(before=peek), {}),
    "test_asks_for_no_more_than_its_access": (rewritten(before=gradient), {}),
    "test_stops_when_nothing_is_active": (rewritten(after=ask_on), {}),
    "test_leaves_finished_samples_alone": (liar(rows=also_the_finished), {}),
    "test_proposes_inside_the_threat_model": (liar(shown=everything), {}),
    "test_what_it_claims_is_confirmed_by_the_judge": (rewritten(after=past_the_ball), {}),
    "test_a_sample_alone_is_as_in_a_batch": (liar(start=odd), {}),
    "test_the_order_of_samples_does_not_matter": (liar(start=batch_signs), {}),
    "test_the_batch_size_of_the_model_does_not_matter": (
        liar(start=lambda self, task: Signs.start(self, task) * (-1) ** task.oracle.batch), {}),
    "test_the_same_seed_gives_the_same": (liar(start=drawn_anywhere), {}),
    "test_another_seed_gives_another_search_where_declared": (Signs, {"randomised": False}),
    "test_keeps_nothing_between_runs": (Memory, {}),
    "test_leaves_global_state_alone": (rewritten(before=lambda self, task: torch.manual_seed(0)), {}),
    "test_leaves_its_inputs_alone": (rewritten(after=write), {}),
    "test_each_effect_is_one": (liar(flips=deaf), {}),
    "test_a_targeted_witness_is_of_the_target": (liar(go_on=hurry), {}),
    "test_copes_with_no_samples": (crash_when(lambda task: not len(task.images), "no samples"), {}),
    "test_copes_with_a_model_that_answers_nan": (rewritten(after=claim_of_nan), {}),
    "test_copes_with_a_model_that_never_moves": (rewritten(after=claim_at_one), {}),
    "test_a_radius_below_one_step_changes_nothing": (rewritten(after=cook), {}),
    "test_takes_images_of_any_shape": (crash_when(lambda task: task.images.shape[1] != 3, "colour only"), {}),
}  # fmt: skip
ALSO = {
    "test_proposes_inside_the_threat_model": (liar(shown=nan_rows), {}),
    "test_leaves_global_state_alone": (rewritten(before=lambda self, task: np.random.seed(0)), {}),  # noqa: NPY002
    "test_asks_for_no_more_than_its_access": (liar(access=Access.LABELS), {}),
}
MORE_STATE = [
    lambda self, task: random.seed(0),
    lambda self, task: torch.set_default_dtype(torch.float64),
    lambda self, task: torch.set_grad_enabled(False),
    lambda self, task: torch.set_num_threads(torch.get_num_threads() + 1),
]


def contract(component, more) -> type[Contract]:
    return type("Under", (Honest,), {"component": component, "effects": {}, "randomised": None, **more})


def test_the_honest_one_passes():
    assert Honest.breaches() == {}
    assert Signs.family is Family.TARGET_DISTORTION
    assert Goal.TARGETED in Signs.goals


def test_every_check_has_a_liar():
    assert set(LIARS) == set(AttackContract.checks())


@pytest.mark.parametrize(
    ("check", "kind"), [*((name, LIARS[name]) for name in LIARS), *((name, ALSO[name]) for name in ALSO)]
)
def test_a_liar_is_caught(check, kind):
    component, more = kind
    more = {"effects": {"share": 0.3}, **more} if check == "test_each_effect_is_one" else more
    state = torch.get_rng_state()
    with pytest.raises(Exception) as caught:  # noqa: PT011 - what it says is looked at
        getattr(contract(component, more)(), check)()
    assert type(caught.value).__name__ in {"ContractError", "BudgetError", "ValueError"}, caught.value
    assert check != "test_leaves_global_state_alone" or torch.equal(state, torch.get_rng_state())


@pytest.mark.parametrize("change", MORE_STATE)
def test_any_global_state_is_watched_and_put_back(change):
    before = torch.get_default_dtype(), torch.is_grad_enabled(), torch.get_num_threads(), random.getstate()
    found = contract(rewritten(after=lambda *task: change(*task) and None), {})
    with pytest.raises(AssertionError, match=r"it (moves|changes)"):
        found().test_leaves_global_state_alone()
    assert before == (torch.get_default_dtype(), torch.is_grad_enabled(), torch.get_num_threads(), random.getstate())


def test_breaches_names_the_checks_that_fail():
    found = contract(liar(goals=frozenset()), {}).breaches()
    assert set(found) == {"test_declares_what_it_is"}
    assert "goals" in found["test_declares_what_it_is"]

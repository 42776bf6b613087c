"""Images before people: build a study of a run, serve it, and analyse the answers."""

from __future__ import annotations

from cyclopts import App

study = App(name="study", help=__doc__)
_HERE = "charpy_plugins.study"
study.command(
    f"{_HERE}.cli.build:build", name="build", help="Choose stimuli from runs, and freeze them in a study file."
)
study.command(f"{_HERE}.cli.edit:edit", name="edit", help="Paint stimuli by hand, with the model's live scores.")
study.command(f"{_HERE}.cli.serve:serve", name="serve", help="Put a study before participants, in the browser.")
study.command(f"{_HERE}.cli.analyse:analyse", name="analyse", help="Accuracy, confidence and tests of every condition.")
study.command(
    f"{_HERE}.cli.simulate:simulate", name="simulate", help="Answers of a simulated population, for planning."
)
study.command(f"{_HERE}.cli.plan:plan", name="plan", help="How many participants a study needs.")

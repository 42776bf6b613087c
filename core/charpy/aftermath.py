"""What is asked of a model when its attacks are done, and what was seen of it that no figure should be read without."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from charpy.errors import ModelError
from charpy.global_state import generators_seeded
from charpy.judge import Judge
from charpy.ready import Ready
from charpy.redraws import DRAWS, redrawn_rows
from charpy.runfile import RunFile
from charpy.site import Site
from charpy.specs import Attackers
from charpy.stages import Stage
from charpy.steadiness import changed, rejection_warning
from charpy.subjects import Subject
from charpy.threat import OWN
from charpy.unit import Bench


def look_back(site: Site, run: RunFile, index: int, subject: Subject, bench: Bench) -> None:
    """Other draws of a randomised model, what it says of the unchanged images now, and what its engine went through.

    Raises:
        ModelError: it changed itself while it was attacked.
    """
    _redraw(site, run, index, subject, bench.judge)
    site.watch.enter(Stage("close", f"comparing model {subject.title} with what it was"))
    _unchanged(subject, bench)
    _replay(site, run, index, subject, bench)
    if (part := run.meta("models")[index])["engine_notes"] != bench.engine.notes:
        known = dict.fromkeys([*part["engine_notes"], *bench.engine.notes])
        run.set_meta(models=models_with(run, index, engine_notes=list(known)))


def doubts(site: Site, run: RunFile, subjects: Sequence[Subject], ready: Sequence[Ready]) -> list[str]:
    """What was seen that no figure should be read without."""
    found = [doubt for index, subject in enumerate(subjects) for doubt in _doubts_of(site, run, index, subject)]
    found += [
        f"{levels.count(OWN)} of {len(levels)} samples have the {norm} level 0: only the image itself is inside, "
        "so they hold whatever the model does"
        for norm, levels in site.own.items()
        if OWN in levels
    ]
    found += [
        f"{subject.title}: {count} units were computed on the model as given: its {item.bench.engine.chosen.name} form "
        "disagreed with it on a witness candidate"
        for index, (subject, item) in enumerate(zip(subjects, ready, strict=True))
        if (count := sum(u["detail"]["engine"] != item.bench.engine.chosen.name for u in run.units(index)))
    ]
    if site.spec.certify.certifiers and all(subject.attackers is not Attackers.ADAPTIVE for subject in subjects):
        found.append("nothing was proven: proofs stand in the row of an adaptive attacker, and there is none")
    return found


def _redraw(site: Site, run: RunFile, index: int, subject: Subject, judge: Judge) -> None:
    """Score a randomised model under other draws, each once: its defences' seeds, or the global generators'."""
    known = run.meta("redraws", [])
    drawn = subject.redrawn is not None or not run.meta("models")[index]["deterministic"]
    if not drawn or any(row["model"] == index for row in known):
        return
    rows = []
    for draw in range(1, DRAWS + 1):
        site.tell(0.0, title := f"{subject.title}  draw {draw}")
        if why := site.watch.enter(Stage("redraw", title, (index, draw))):
            run.set_meta(warnings=[*run.meta("warnings", []), f"{title} was not scored: {why}"])
            continue
        other = judge if subject.redrawn is None else Judge(subject.redrawn(draw), judge.output, judge.shape)
        with generators_seeded(site.spec.seed + draw):
            found = redrawn_rows(site, other, run.witnesses(index))
        rows += [{"model": index, "draw": draw, **row} for row in found]
    run.set_meta(redraws=known + rows)


def _replay(site: Site, run: RunFile, index: int, subject: Subject, bench: Bench) -> None:
    """Show the unchanged images once more: a model that has learnt from being attacked answers otherwise now."""
    part = run.meta("models")[index]
    if not part["deterministic"]:
        return
    judges = [bench.judge]
    if subject.attackers is not Attackers.STATIC:
        judges.append(Judge(bench.model, bench.judge.output, bench.judge.shape))
    rows = run.samples(index)
    pieces = [(site.read(shard).images, [rows[position] for position in shard]) for shard in site.shards()]
    count = max(sum(changed(judge, images, of) for images, of in pieces) for judge in judges)
    if count:
        note = f"stateful: {count} of {len(rows)} unchanged images have another label at the end than at the beginning"
        run.set_meta(models=models_with(run, index, note=note, steady=False))


def models_with(run: RunFile, index: int, *, note: str = "", **facts: Any) -> list[dict[str, Any]]:
    """What is known of the models, with more about one of them."""
    parts: list[dict[str, Any]] = run.meta("models")
    notes = [*parts[index]["notes"], *([note] if note else [])]
    parts[index] = {**parts[index], "notes": notes, **facts}
    return parts


def _unchanged(subject: Subject, bench: Bench) -> None:
    """Refuse a model whose state changed while it was attacked."""
    if bench.model.state_digest() != subject.facing(bench.judge.model, bench.judge.shape).state_digest():
        raise ModelError(
            "the model changed itself while it was attacked",
            where=subject.title,
            hint="freeze batch normalisation and running statistics; its figures would depend on what came before",
        )


def _doubts_of(site: Site, run: RunFile, index: int, subject: Subject) -> list[str]:
    """What was seen of one model."""
    part, doubts = run.meta("models")[index], []
    if not part["deterministic"]:
        doubts.append(
            f"{subject.title}: the model gives the same images other answers each time; the figures are of one draw, "
            f"and {DRAWS} others stand beside them"
        )
    elif not part["batch_invariant"]:
        doubts.append(f"{subject.title}: the model's answer to an image depends on the other images of its batch")
    said = Counter(witness.prediction for witness in run.witnesses(index))
    rejected = rejection_warning(subject.title, said, site.data.class_names)
    return [*doubts, *([rejected] if rejected else [])]

"""Whether the records of a run file fit each other: nothing but the file is needed, and what its components declare."""

from __future__ import annotations

from collections.abc import Mapping

from charpy.identity import locations_of, spec_values, stands_in
from charpy.interfaces.certifier import THE_MODEL
from charpy.plugins import Registry
from charpy.runfile import RunFile
from charpy.specs import OwnLevels, RunSpec
from charpy.verification.document import Check, Tally


def check_bytes(run: RunFile) -> Check:
    """What the bytes were held against when the file was opened; where they differ it does not open."""
    tally = Tally("bytes")
    counts = run.audit().counts()
    for name in run.audit().strangers():
        tally.wrong(f"schema: {name}", "not as charpy makes it", "the tables of a run file, and no others")
    if run.protected == "nothing":
        tally.missing("bytes: a run file of an older schema has no digests")
        return tally.check()
    tally.right(sum(counts.values()))
    if run.protected == "rows":
        tally.note("no seal over the whole file: every row has its digest, but a missing one leaves no trace in these")
    return tally.check()


def check_form(run: RunFile) -> Check | None:
    """The records that cannot be read as what they should be, such as a text in place of a distance; None for none."""
    tally = Tally("records")
    wrong = list(run.audit().malformed())
    for record, found, expected in wrong:
        tally.wrong(record, found, expected)
    if not wrong:
        return None
    tally.missing("everything else: records that cannot be read stand in the way")
    return tally.check()


def check_records(run: RunFile, spec: RunSpec, registry: Registry) -> Check:
    """Every row against the others: results and witnesses, units and samples, the spec and the identity."""
    tally = Tally("records")
    audit = run.audit()
    wrong = list(audit.misfits())
    counts = audit.counts()
    tally.right(max(0, sum(counts[table] for table in counts if table not in {"meta", "identity"}) - len(wrong)))
    for record, found, expected in wrong:
        tally.wrong(record, found, expected)
    _identity(run, spec, registry, tally)
    finished = bool(run.meta("finished", False))
    if not finished:
        tally.missing("the run is not finished: what was not done yet is not looked at")
    titles = [part["name"] for part in run.meta("models", [])]
    if titles or finished:
        tally.equal("meta (models)", titles, [model.title for model in spec.models])
    if finished and run.meta("dataset") is None:
        tally.wrong("meta (dataset)", "(none)", "the data of a finished run")
    if run.meta("dataset") is not None:
        samples = run.meta("dataset")["samples"]
        for model in range(len(spec.models)):
            stored = len(run.samples(model))
            if stored or finished:
                tally.equal(f"samples (model {model})", f"{stored} samples", f"{samples} samples")
        if spec.data.samples is not None:
            tally.equal("meta (dataset)", f"{samples} samples", f"{spec.data.samples} samples")
    return tally.check()


def check_proofs(run: RunFile, spec: RunSpec) -> Check:
    """A sample that is proven has no witness within what is proven."""
    tally = Tally("proofs and witnesses")
    for model, part in enumerate(spec.models):
        proven = sum(sum(record.proven.values()) for record in run.proofs(model))
        against: dict[tuple[str, int, str, int], tuple[int, float]] = {}
        for found in run.audit().contradictions(model):
            if found.of in {"", THE_MODEL}:  # a proof of a smoothed model is none of the model that is attacked
                against.setdefault((found.norm, found.th, found.certifier, found.sample), (found.unit, found.distance))
        tally.right(proven - len(against))
        for (norm, th, certifier, sample), (unit, distance) in against.items():
            record = f"{part.title}: {norm} th={th}, proof by {certifier}, sample {sample}"
            tally.wrong(record, f"a witness at {distance:g} (unit {unit})", "none within what is proven")
    return tally.check()


def _identity(run: RunFile, spec: RunSpec, registry: Registry, tally: Tally) -> None:
    """The identity was made of the spec, the data and the models that the file holds."""
    identity = run.identity
    stored = {f"spec.{key}": value for key, value in spec_values(spec)}
    own = {f"spec.threats.{n}.levels" for n, threat in enumerate(spec.threats) if isinstance(threat.levels, OwnLevels)}
    left_out = {f"spec.{place}" for place in locations_of(spec, registry)} | _of_attacks(identity)
    for key, value in stored.items():
        if key in identity or not stands_in(key, left_out):
            tally.equal(f"identity ({key})", identity.get(key, "(none)"), value)
    for key in identity.keys() - stored.keys() - own:
        if key.startswith("spec."):
            tally.wrong(f"identity ({key})", identity[key], "(none)")
    if run.meta("dataset") is not None:
        found = run.meta("dataset")["fingerprint"]
        tally.equal("meta (dataset): fingerprint", found, identity.get("data.fingerprint", "(none)"))
    for part in run.meta("models", []):
        for key, value in part["fingerprint"].items():
            named = f"model.{part['name']}.{key}"
            tally.equal(f"meta (models): {named}", value, identity.get(named, "(none)"))


def _of_attacks(identity: Mapping[str, str]) -> set[str]:
    """The parameters of attacks that have a fingerprint: any may say where something lies, and none is imported."""
    places = {".".join(key.split(".")[1:5]) for key in identity if key.startswith("attack.threats.")}
    return {f"spec.{place}.params" for place in places}

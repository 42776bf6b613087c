"""One editor on one study file: what there is to paint, what the server thinks of a painting, and saving it."""

from __future__ import annotations

import hashlib
import secrets
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Final, NamedTuple

import torch

from charpy.errors import CharpyError, DataError
from charpy.judge import NO_ANSWER, Claim, Verdict
from charpy.pixels import distances, pack
from charpy.threat import Grid, Norm
from charpy_plugins.study.document import Stimulus, StudyDocument, Threat
from charpy_plugins.study.editor.budget import threat_model
from charpy_plugins.study.editor.conditions import benign_of, painted_in, repainted
from charpy_plugins.study.editor.disk import alone, answers_of, check_thawed, read_now
from charpy_plugins.study.editor.display import from_png, read_back, rendered
from charpy_plugins.study.editor.model import Answer, PaintModel
from charpy_plugins.study.studyfile import Study, digest, write_study

ATTACK: Final = "painted"


class RefusedError(CharpyError):
    """A request that changes nothing; `status` is its HTTP status, `stale`: reading the study again may help."""

    def __init__(self, what: str, status: int, *, stale: bool = False) -> None:
        super().__init__(what)
        self.status, self.stale = status, stale


class Item(NamedTuple):
    """An original, and its painted stimulus where there is one."""

    original: Stimulus
    painted: Stimulus | None


class Distances(NamedTuple):
    """Of a painting from its original: whole pixels, and 1/255 steps."""

    l0: int
    l2: float
    linf: int


class Look(NamedTuple):
    """What the page shows of an unsaved painting; `hindrance` is '' where saving it would be tried."""

    answer: Answer
    distances: Distances
    distance: float
    hindrance: str


class EditSession:
    """The state behind the pages. Every method may be called from several threads at once.

    Args:
        path: the study file that is read, and written at every save.
        condition: name of the painted condition; made where the study has none of that name.

    Raises:
        DataError: no study, nothing to paint, or the study is frozen.
    """

    def __init__(self, path: Path, condition: str, threat: Threat, model: PaintModel) -> None:
        self.path, self.name, self.model, self.limit = path, condition, model, threat
        self.threat = threat_model(threat)
        self._saving = threading.Lock()
        check_thawed(path)
        self._study, self._bytes = read_now(path)
        benign_of(self._study.document)
        painted_in(self._study.document, condition)

    @property
    def document(self) -> StudyDocument:
        """The study as it is now; its condition may not be in it yet."""
        return self._study.document

    @property
    def shape(self) -> tuple[int, int, int]:
        """`(C, H, W)`."""
        return self.document.source.shape

    def items(self) -> list[Item]:
        """Every original, in the order of the study."""
        painted = {stimulus.original: stimulus for stimulus in self.document.of(self.name)}
        originals = self.document.of(benign_of(self.document).name)
        return [Item(original, painted.get(original.original)) for original in originals]

    def item(self, stimulus: str) -> Item:
        """The original whose benign stimulus has this id.

        Raises:
            RefusedError: there is none.
        """
        for item in self.items():
            if item.original.id == stimulus:
                return item
        raise RefusedError("no such original in this study", 404)

    def image(self, stimulus: str, size: int) -> bytes:
        """PNG of a benign or painted stimulus at a size of the study.

        Raises:
            RefusedError: there is none.
        """
        study = self._study
        shown = {benign_of(study.document).name, self.name}
        if not any(one.id == stimulus and one.condition in shown for one in study.document.stimuli):
            raise RefusedError("no such stimulus in this condition", 404)
        if size not in study.document.sizes:
            raise RefusedError("no such size in this study", 404)
        return study.images[stimulus, size]

    def pixels(self, stimulus: str) -> torch.Tensor:
        """The same as uint8 `(C, H, W)`."""
        return from_png(self.image(stimulus, 1), self.shape)

    def look(self, stimulus: str, pixels: torch.Tensor) -> Look:
        """What the live model says of `pixels` as a painting of this original, and what stands against saving it."""
        item = self.item(stimulus)
        original = self.pixels(item.original.id)
        distance = _distance(self.threat.norm, original, pixels)
        gaps = Distances(
            int(_distance(Norm.L0, original, pixels)),
            _distance(Norm.L2, original, pixels),
            int(_distance(Norm.LINF, original, pixels)),
        )
        answer = self.model.answer(pixels, item.original.label)
        hindrance = self._hindrance(gaps, distance, answer, item.original.label)
        if not hindrance and (lost := self._lost_as_shown(pixels, item.original.label)):
            hindrance = f"classified correctly as shown at size {', '.join(lost)}"
        return Look(answer, gaps, distance, hindrance)

    def save(self, stimulus: str, pixels: torch.Tensor, replaces: str) -> Stimulus:
        """Judge `pixels` anew and write them into the study, in place of the painted stimulus `replaces` ('': none).

        Raises:
            RefusedError: it is no witness within the budget at every size, or the study is not what the painter saw.
        """
        with self._saving:
            self._check_unchanged()
            item = self.item(stimulus)
            self._check_same(item, replaces)
            original = self.pixels(item.original.id)
            pages = rendered(pixels, self.document.sizes, self.document.resampling)
            verdict = self._judged(original, pixels, item.original.label, pages)
            new = Stimulus(
                id=self._free_id(),
                condition=self.name,
                original=item.original.original,
                label=item.original.label,
                prediction=verdict.prediction,
                attack=ATTACK,
                distance=verdict.distance,
                metrics=verdict.metrics,
                digests=tuple(digest(page) for page in pages.values()),
            )
            self._write(item.painted, new, {(new.id, size): page for size, page in pages.items()})
            return new

    def delete(self, stimulus: str, painted: str) -> None:
        """Take the painted stimulus of an original out of the study.

        Raises:
            RefusedError: it is not the one that the painter has seen, or the study has changed.
        """
        with self._saving:
            self._check_unchanged()
            item = self.item(stimulus)
            self._check_same(item, painted)
            if item.painted is None:
                raise RefusedError("nothing is painted of this original", 404)
            self._write(item.painted, None, {})

    def reload(self) -> None:
        """Read the study file again, after somebody else has written it.

        Raises:
            RefusedError: it is about other images, another model or another threat now.
        """
        with self._saving:
            try:
                study, data = read_now(self.path)
                painted_in(study.document, self.name)
                benign_of(study.document)
            except DataError as cause:
                raise RefusedError(str(cause), 409) from None
            now, then = study.document.source, self.document.source
            if (now.shape, now.dataset) != (then.shape, then.dataset) or now.threat not in {then.threat, self.limit}:
                raise RefusedError("the study file is about something else now: start `charpy study edit` again", 409)
            if now.fingerprint not in {then.fingerprint, self.model.fingerprint}:
                raise RefusedError("the study file names another model now: start `charpy study edit` again", 409)
            self._study, self._bytes = study, data

    def _hindrance(self, gaps: Distances, distance: float, answer: Answer, label: int) -> str:
        if gaps.l0 == 0:
            return "nothing is painted yet"
        if distance > self.limit.level + 1e-9:
            return "outside the budget"
        if answer.prediction < 0:
            return NO_ANSWER
        return "still classified correctly" if answer.prediction == label else ""

    def _lost_as_shown(self, pixels: torch.Tensor, label: int) -> list[str]:
        """The sizes at which the live model reads a painting right after all; only those that change it are asked."""
        sizes, resampling = self.document.sizes, self.document.resampling
        shown = read_back(rendered(pixels, sizes, resampling), self.shape[0])
        return [
            f"x{size}"
            for size, image in zip(sizes, shown, strict=True)
            if not torch.equal(image, pixels) and self.model.answer(image, label).prediction in {label, -1}
        ]

    def _judged(self, original: torch.Tensor, pixels: torch.Tensor, label: int, pages: Mapping[int, bytes]) -> Verdict:
        """The verdict on a confirmed painting, checked as the PNG of every size has it."""
        if torch.equal(original, pixels):
            raise RefusedError("nothing is painted yet", 422)
        judge = self.model.judge()
        claim = Claim(pack(original, Grid.EIGHT_BIT), pack(pixels, Grid.EIGHT_BIT), label)
        verdict = judge.decide([claim], self.threat)[0]
        if not verdict.confirmed:
            raise RefusedError(f"the judge refuses it: {verdict.reason}", 422)
        shown = read_back(pages, self.shape[0])
        labels, valid = judge.classify(shown)
        lost = [
            f"x{size}" for size, fooled in zip(pages, (valid & (labels != label)).tolist(), strict=True) if not fooled
        ]
        if lost:
            raise RefusedError(f"it is classified correctly again as shown at size {', '.join(lost)}", 422)
        return verdict

    def _check_unchanged(self) -> None:
        if (found := answers_of(self.path)) is not None:
            raise RefusedError(f"the study is frozen: it has answers in {found}. Start again with --out NEW.study", 409)
        try:
            data = self.path.read_bytes()
        except OSError as cause:
            raise RefusedError(f"the study file cannot be read any more: {cause.strerror}", 409) from None
        if hashlib.sha256(data).hexdigest() != self._bytes:
            raise RefusedError("somebody else has written the study file: read it again, then save", 409, stale=True)

    def _check_same(self, item: Item, seen: str) -> None:
        now = item.painted.id if item.painted is not None else ""
        if now != seen:
            raise RefusedError("this original was painted or cleared elsewhere: open it again to see", 409)

    def _free_id(self) -> str:
        taken = {stimulus.id for stimulus in self.document.stimuli}
        while (found := secrets.token_hex(8)) in taken:
            pass
        return found

    def _write(self, old: Stimulus | None, new: Stimulus | None, images: dict[tuple[str, int], bytes]) -> None:
        condition = painted_in(self.document, self.name)
        document = repainted(self.document, condition, old, new, self.limit, self.model)
        kept = {key: data for key, data in self._study.images.items() if old is None or key[0] != old.id}
        study = Study(document, {**kept, **images})
        with alone(self.path):
            self._check_unchanged()  # again: judging may have taken long
            try:
                write_study(study, self.path)
            except DataError as cause:
                raise RefusedError(str(cause), 409) from None
            self._study, self._bytes = study, hashlib.sha256(self.path.read_bytes()).hexdigest()


def _distance(norm: Norm, original: torch.Tensor, pixels: torch.Tensor) -> float:
    return float(distances(norm, original[None], pixels[None])[0])

"""The contract of datasets."""

from __future__ import annotations

from typing import ClassVar
from unittest import SkipTest

import torch

from charpy.interfaces.dataset import Dataset
from charpy.pixels import on_grid
from charpy.testing.contract import Contract, ContractError, nothing_global_changes, require
from charpy.threat import Grid


class DatasetContract(Contract):
    """What every dataset must do.

    Attributes:
        looked_at: samples that are read, at most.
    """

    component: ClassVar[type[Dataset]]
    sort = Dataset
    looked_at: ClassVar[int] = 200

    def another(self) -> Dataset | None:
        """A dataset of the same kind with other content; None where there is none."""
        return None

    def rows(self) -> list[int]:
        """The rows that are looked at, from the whole set."""
        size = len(self.make())
        return list(range(0, size, max(1, size // self.looked_at)))[: self.looked_at]

    def test_says_what_it_is(self) -> None:
        """A name, at least two class names, all different, a shape `(C, H, W)`, and samples."""
        data = self.make()
        require(str(getattr(data, "name", "")).strip(), "it has no name")
        require(len(data.class_names) >= 2, "it has fewer than two classes", data.class_names)
        require(len(set(data.class_names)) == len(data.class_names), "two classes have one name", data.class_names)
        require(len(data.shape) == 3 and min(data.shape) > 0, "shape is no (C, H, W)", data.shape)
        require(len(data) > 0, "it is empty")

    def test_images_are_images(self) -> None:
        """float32 `(N, C, H, W)` of the declared shape, finite, in [0, 1], not all on 0 and 1/255."""
        data = self.make()
        images = data.read(self.rows()).images
        require(images.shape == (len(self.rows()), *data.shape), "images are not (N, C, H, W)", tuple(images.shape))
        require(images.dtype == torch.float32, "images are not float32", images.dtype)
        require(((images >= 0) & (images <= 1)).all(), "values lie outside [0, 1], or are NaN")
        require(float(images.max()) > 2 / 255, "no value is above 2/255: images may have been divided by 255 twice")

    def test_images_lie_on_the_declared_grid(self) -> None:
        """8bit: every value is k/255."""
        data = self.make()
        if data.grid is not Grid.EIGHT_BIT:
            raise SkipTest("it declares no grid")
        require(on_grid(data.read(self.rows()).images), "declared 8bit, but values lie between multiples of 1/255")

    def test_labels_are_classes(self) -> None:
        """int64 `(N,)`, each the position of a class name."""
        data = self.make()
        labels = data.read(self.rows()).labels
        require(labels.shape == (len(self.rows()),), "labels are not (N,)", tuple(labels.shape))
        require(labels.dtype == torch.int64, "labels are not int64", labels.dtype)
        require(
            ((labels >= 0) & (labels < len(data.class_names))).all(), "a label is no class", labels.unique().tolist()
        )

    def test_ids_are_stable_and_unique(self) -> None:
        """One text a row, all different, the same from another object and in another read."""
        rows = self.rows()
        ids = self.make().read(rows).ids
        require(len(ids) == len(rows), "not one id for each row", len(ids))
        require(all(isinstance(name, str) and name for name in ids), "an id is no text")
        require(len(set(ids)) == len(ids), "two samples have one id")
        require(self.make().read(rows).ids == ids, "another object gives other ids")
        require(self.make().read(rows[-1:]).ids == ids[-1:], "a row read alone has another id")

    def test_rows_come_in_the_order_asked(self) -> None:
        """Any order, any piece, a row twice: the same images, labels and ids."""
        data, rows = self.make(), self.rows()
        whole = data.read(rows)
        for order in ([len(rows) - 1, 0], [0, 0], [0]):
            part = data.read([rows[i] for i in order])
            require(torch.equal(part.images, whole.images[order]), "rows read in another order have other images")
            require(torch.equal(part.labels, whole.labels[order]), "rows read in another order have other labels")

    def test_reading_nothing_gives_nothing(self) -> None:
        """`read([])` is `(0, C, H, W)`."""
        data = self.make()
        part = data.read([])
        require(part.images.shape == (0, *data.shape), "read([]) is not (0, C, H, W)", tuple(part.images.shape))
        require(part.labels.shape == (0,) and part.ids == (), "read([]) has labels or ids")

    def test_rows_that_are_not_there_are_refused(self) -> None:
        """An index beyond the end is an error, never another sample."""
        data = self.make()
        try:
            data.read([len(data)])
        except Exception:  # noqa: BLE001 - refusing is what is asked for
            return
        raise ContractError(f"it reads row {len(data)} of {len(data)}")

    def test_what_is_read_belongs_to_the_reader(self) -> None:
        """Writing into what was read changes nothing that is read later."""
        data, rows = self.make(), self.rows()[:4]
        first = data.read(rows)
        kept = first.images.clone(), first.labels.clone()
        first.images.fill_(0.5)
        first.labels.fill_(0)
        again = data.read(rows)
        require(torch.equal(again.images, kept[0]), "writing into images that were read changes the data")
        require(torch.equal(again.labels, kept[1]), "writing into labels that were read changes the data")

    def test_its_fingerprint_is_stable(self) -> None:
        """A text that two of the same share, before and after reading."""
        data = self.make()
        first = data.fingerprint()
        require(isinstance(first, str) and first, "its fingerprint is no text")
        data.read(self.rows())
        require(data.fingerprint() == first, "reading changes its fingerprint")
        require(self.make().fingerprint() == first, "another object of the same data has another fingerprint")

    def test_its_fingerprint_follows_its_content(self) -> None:
        """Other images or labels, another fingerprint."""
        other = self.another()
        if other is None:
            raise SkipTest("`another` gives no dataset with other content")
        require(other.fingerprint() != self.make().fingerprint(), "other content, the same fingerprint")

    def test_references_that_are_not_its_own_are_left_to_others(self) -> None:
        """`accepts` says None to what it does not know."""
        require(self.component.accepts("no-such-data-\u00e9", None) is None, "it accepts any reference")

    def test_leaves_global_state_alone(self) -> None:
        """Global random generators, default dtype, grad mode and threads are as before."""
        with nothing_global_changes():
            self.make().read(self.rows())

"""Handwritten digits of 8 x 8 pixels, embedded in scikit-learn: 1,797 samples that need no download."""

from __future__ import annotations

import hashlib
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from charpy.arrays import ArrayDataset
from charpy.interfaces.component import Params as BaseParams
from charpy.interfaces.component import param

HIGHEST = 16
"""The largest value of a pixel in the source (4 x 4 blocks of a bitmap were counted)."""


class Digits(ArrayDataset):
    """Handwritten digits of 8 x 8 pixels, embedded in scikit-learn: 1,797 samples, ten classes, no download.

    Source: E. Alpaydin and C. Kaynak, Optical Recognition of Handwritten Digits, UCI Machine Learning Repository,
    1998; the test set of it that scikit-learn ships. Its values 0..16 become round(v * 255 / 16) / 255, so that
    every image lies on the 8-bit grid.

    Split (ours; scikit-learn has none): within each class the rows are sorted by the SHA-256 of the text
    "charpy digits ROW", and the first third, rounded down, is the test split: 596 samples that the models of this
    project are not trained on. The rule uses no random generator, so it holds on every machine and version.

    Ids are `digits/ROW` with scikit-learn's row number, the same in every split.
    """

    class Params(BaseParams):
        """Which rows."""

        split: Literal["all", "train", "test"] = param(
            "test", description="test: the third that no model is trained on; train: the rest; all: both", source="ours"
        )

    def __init__(self, params: Any = None) -> None:
        from sklearn.datasets import load_digits

        params = type(self).Params() if params is None else params
        source = load_digits()
        pixels = np.floor(source.images * (255 / HIGHEST) + 0.5).astype(np.uint8)[:, None]
        labels = source.target.astype(np.int64)
        rows = split_rows(labels, params.split)
        super().__init__(
            pixels[rows],
            labels[rows],
            name="digits",
            class_names=[str(digit) for digit in range(10)],
            ids=[f"digits/{row:04d}" for row in rows],
            params=params,
        )
        self.notes = (
            f"values v of 0..{HIGHEST} were read as round(v * 255 / {HIGHEST}) / 255",
            f"split: {params.split}",
        )

    @classmethod
    def accepts(cls, reference: str, data_dir: str | None) -> dict[str, Any] | None:
        """`digits`."""
        return {} if reference == "digits" else None


def split_rows(labels: NDArray[np.int64], split: Literal["all", "train", "test"]) -> NDArray[np.int64]:
    """The row numbers of `split` in ascending order; `labels` are those of all rows."""
    if split == "all":
        return np.arange(len(labels))
    keys = np.array([hashlib.sha256(f"charpy digits {row}".encode()).hexdigest() for row in range(len(labels))])
    test = np.zeros(len(labels), bool)
    for label in np.unique(labels):
        rows = np.flatnonzero(labels == label)
        test[rows[np.argsort(keys[rows])][: len(rows) // 3]] = True
    return np.flatnonzero(test if split == "test" else ~test)

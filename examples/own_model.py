"""Assess a model of your own, here one that is no neural network: nearest neighbours on pixels."""

from __future__ import annotations

import numpy as np
from sklearn.datasets import load_digits
from sklearn.neighbors import KNeighborsClassifier

import charpy


def main() -> None:
    """Train on the first 1,500 digits, assess on 20 of the others, and write the report."""
    digits = load_digits()
    images = np.floor(digits.images * (255 / 16) + 0.5).astype(np.uint8)[:, None]
    neighbours = KNeighborsClassifier(5).fit(images[:1500].reshape(1500, -1) / 255, digits.target[:1500])

    def shares(batch: np.ndarray) -> np.ndarray:
        """The share of neighbours of each class: `(N, 10)` for images `(N, 1, 8, 8)` in [0, 1]."""
        return neighbours.predict_proba(batch.reshape(len(batch), -1)).astype(np.float32)

    result = charpy.assess(shares, images[1500:1520], digits.target[1500:1520], name="5-NN", queries=1000)
    print(result)
    print(result.save("own_model.html"))


if __name__ == "__main__":
    main()

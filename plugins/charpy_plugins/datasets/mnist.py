"""MNIST: handwritten digits of 28 x 28 pixels."""

from __future__ import annotations

from charpy_plugins.datasets.idx import IdxDataset, sources_at


class Mnist(IdxDataset):
    """MNIST: handwritten digits of 28 x 28 pixels, ten classes, 60,000 train and 10,000 test samples.

    Source: Y. LeCun, C. Cortes and C. J. C. Burges, The MNIST database of handwritten digits, 1998. The checksums are
    those of the published gzip files.
    """

    title = "mnist"
    names = tuple(str(digit) for digit in range(10))
    subfolders = ("mnist", "MNIST/raw", "mnist/raw", "MNIST")
    sources = sources_at(
        "https://ossci-datasets.s3.amazonaws.com/mnist/",
        train_images="440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
        train_labels="3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
        test_images="8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
        test_labels="f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
    )

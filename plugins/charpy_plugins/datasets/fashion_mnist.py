"""Fashion-MNIST: articles of clothing, 28 x 28 pixels, in the files of MNIST's format."""

from __future__ import annotations

from charpy_plugins.datasets.idx import IdxDataset, sources_at


class FashionMnist(IdxDataset):
    """Fashion-MNIST: articles of clothing of 28 x 28 pixels, ten classes, 60,000 train and 10,000 test samples.

    Source: H. Xiao, K. Rasul and R. Vollgraf, Fashion-MNIST: a Novel Image Dataset for Benchmarking Machine Learning
    Algorithms, arXiv:1708.07747. The checksums are those of the published gzip files (the mirror has no https).
    """

    title = "fashion-mnist"
    names = (
        "T-shirt/top",
        "Trouser",
        "Pullover",
        "Dress",
        "Coat",
        "Sandal",
        "Shirt",
        "Sneaker",
        "Bag",
        "Ankle boot",
    )
    subfolders = ("fashion-mnist", "FashionMNIST/raw", "fashion_mnist", "fashion-mnist/raw", "FashionMNIST")
    sources = sources_at(
        "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
        train_images="3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
        train_labels="a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
        test_images="346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
        test_labels="67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
    )

"""What Kotyan & Vargas 2020 report (arXiv:1906.06026), in per cent of 100 correctly classified images.

Figures only, by model; four of a row are for th = 1, 3, 5, 10.
"""

from __future__ import annotations

from collections.abc import Mapping

Row = tuple[int, int, int, int]

CLEAN: Mapping[str, float] = {
    "WideResNet": 95.12, "DenseNet": 94.54, "ResNet": 92.67, "NIN": 90.87, "AllConv": 88.46, "CapsNet": 79.03,
    "LeNet": 73.57, "AT": 87.11, "TVM": 47.55, "FS": 92.37,
}  # fmt: skip
"""Table III, accuracy on the test set."""

DUAL: Mapping[str, Mapping[str, Row]] = {
    "l0": {
        "WideResNet": (11, 55, 75, 94), "DenseNet": (9, 43, 66, 78), "ResNet": (12, 52, 73, 85),
        "NIN": (18, 62, 81, 90), "AllConv": (11, 31, 57, 77), "CapsNet": (21, 37, 49, 57), "LeNet": (58, 86, 94, 99),
        "AT": (22, 52, 66, 86), "TVM": (16, 12, 20, 24), "FS": (17, 49, 69, 78),
    },
    "linf": {
        "WideResNet": (15, 97, 98, 100), "DenseNet": (23, 68, 72, 74), "ResNet": (33, 71, 76, 83),
        "NIN": (11, 86, 88, 92), "AllConv": (9, 70, 73, 75), "CapsNet": (13, 34, 72, 97), "LeNet": (44, 96, 100, 100),
        "AT": (3, 12, 25, 57), "TVM": (4, 4, 6, 14), "FS": (26, 63, 66, 74),
    },
}  # fmt: skip
"""Table III, adversarial accuracy by CMA-ES."""

OPTIMISERS: Mapping[tuple[str, str, str], Row] = {
    ("l0", "ResNet", "de"): (24, 70, 75, 79), ("l0", "ResNet", "cma-es"): (12, 52, 73, 85),
    ("l0", "CapsNet", "de"): (21, 37, 49, 57), ("l0", "CapsNet", "cma-es"): (20, 39, 40, 41),
    ("linf", "ResNet", "de"): (5, 23, 53, 82), ("linf", "ResNet", "cma-es"): (33, 71, 76, 83),
    ("linf", "CapsNet", "de"): (11, 13, 15, 23), ("linf", "CapsNet", "cma-es"): (13, 34, 72, 97),
}  # fmt: skip
"""Table II."""

ATTACKS: Mapping[str, Mapping[str, tuple[int, float]]] = {
    "fgm": {
        "WideResNet": (69, 159.88), "DenseNet": (50, 120.03), "ResNet": (52, 124.70), "NIN": (72, 140.46),
        "AllConv": (67, 155.95), "CapsNet": (70, 208.89), "LeNet": (84, 152.37),
    },
    "bim": {
        "WideResNet": (89, 208.44), "DenseNet": (52, 160.34), "ResNet": (55, 164.64), "NIN": (74, 216.97),
        "AllConv": (69, 273.90), "CapsNet": (82, 361.63), "LeNet": (89, 345.27),
    },
    "pgd": {
        "WideResNet": (89, 208.49), "DenseNet": (52, 160.38), "ResNet": (55, 164.64), "NIN": (74, 216.96),
        "AllConv": (69, 274.15), "CapsNet": (84, 370.90), "LeNet": (89, 357.34),
    },
    "deepfool": {
        "WideResNet": (60, 613.14), "DenseNet": (60, 478.03), "ResNet": (58, 458.57), "NIN": (59, 492.90),
        "AllConv": (51, 487.46), "CapsNet": (87, 258.08), "LeNet": (31, 132.32),
    },
    "newtonfool": {
        "WideResNet": (82, 63.13), "DenseNet": (50, 53.89), "ResNet": (54, 51.56), "NIN": (66, 54.78),
        "AllConv": (61, 61.05), "CapsNet": (90, 1680.83), "LeNet": (84, 49.61),
    },
    "few_pixel, th = 1": {
        "WideResNet": (20, 181.43), "DenseNet": (20, 179.48), "ResNet": (29, 191.73), "NIN": (28, 185.09),
        "AllConv": (24, 172.01), "CapsNet": (29, 177.86), "LeNet": (61, 191.69),
    },
    "few_pixel, th = 10": {
        "WideResNet": (91, 366.60), "DenseNet": (81, 354.42), "ResNet": (90, 342.56), "NIN": (93, 354.61),
        "AllConv": (81, 365.10), "CapsNet": (63, 359.55), "LeNet": (98, 271.90),
    },
    "threshold, th = 1": {
        "WideResNet": (30, 39.24), "DenseNet": (38, 39.24), "ResNet": (43, 39.27), "NIN": (23, 39.23),
        "AllConv": (23, 39.21), "CapsNet": (13, 39.09), "LeNet": (47, 39.28),
    },
    "threshold, th = 10": {
        "WideResNet": (98, 70.70), "DenseNet": (78, 67.63), "ResNet": (83, 64.50), "NIN": (90, 84.20),
        "AllConv": (79, 77.76), "CapsNet": (97, 184.93), "LeNet": (100, 66.65),
    },
}  # fmt: skip
"""Table IV: success and mean L2 on the 0..255 scale."""

AREAS: Mapping[str, tuple[float, float]] = {
    "WideResNet": (425.0, 141.5), "DenseNet": (989.5, 696.0), "ResNet": (674.0, 575.5), "NIN": (528.0, 364.0),
    "AllConv": (1123.5, 849.0), "CapsNet": (2493.0, 404.5), "LeNet": (137.5, 104.0),
}  # fmt: skip
"""Table V: area under the curve in images times th, few-pixel and threshold attack."""

"""lpips against torchmetrics' own computation, with networks written here and filled with drawn weights."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torch.nn.functional import interpolate
from torchmetrics.functional.image import lpips as torchmetrics_lpips

from charpy.errors import DataError, ModelError, SpecError, UnsafeFileError
from charpy.interfaces.dataset import Dataset
from charpy.interfaces.metric import Direction
from charpy.plugins import registry
from charpy.specs import parse
from charpy_plugins.datasets.cifar10 import Cifar10
from charpy_plugins.datasets.digits import Digits
from charpy_plugins.datasets.mnist import Mnist
from charpy_plugins.metrics.lpips import Lpips
from charpy_plugins.metrics.lpips_networks import PUBLISHED, Published

NETS = ("alex", "vgg", "squeeze")


class Fired(nn.Module):
    """A fire module with torchvision's names."""

    def __init__(self, channels: int, few: int, many: int) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(channels, few, 1)
        self.expand1x1 = nn.Conv2d(few, many, 1)
        self.expand3x3 = nn.Conv2d(few, many, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.squeeze(x))
        return torch.cat([torch.relu(self.expand1x1(x)), torch.relu(self.expand3x3(x))], 1)


def torchvision_features(net: str) -> nn.Sequential:
    """The whole convolutional part of each network, layer by layer as torchvision numbers them."""

    def three(a: int, b: int) -> nn.Module:
        return nn.Conv2d(a, b, 3, padding=1)

    if net == "alex":
        return nn.Sequential(
            nn.Conv2d(3, 64, 11, 4, 2), nn.ReLU(), nn.MaxPool2d(3, 2),
            nn.Conv2d(64, 192, 5, padding=2), nn.ReLU(), nn.MaxPool2d(3, 2),
            three(192, 384), nn.ReLU(), three(384, 256), nn.ReLU(), three(256, 256), nn.ReLU(), nn.MaxPool2d(3, 2),
        )  # fmt: skip
    if net == "vgg":
        relu, pool = nn.ReLU(), nn.MaxPool2d(2, 2)
        return nn.Sequential(
            three(3, 64), relu, three(64, 64), relu, pool,
            three(64, 128), relu, three(128, 128), relu, pool,
            three(128, 256), relu, three(256, 256), relu, three(256, 256), relu, pool,
            three(256, 512), relu, three(512, 512), relu, three(512, 512), relu, pool,
            three(512, 512), relu, three(512, 512), relu, three(512, 512), relu, pool,
        )  # fmt: skip
    return nn.Sequential(
        nn.Conv2d(3, 64, 3, 2), nn.ReLU(), nn.MaxPool2d(3, 2, ceil_mode=True),
        Fired(64, 16, 64), Fired(128, 16, 64), nn.MaxPool2d(3, 2, ceil_mode=True),
        Fired(128, 32, 128), Fired(256, 32, 128), nn.MaxPool2d(3, 2, ceil_mode=True),
        Fired(256, 48, 192), Fired(384, 48, 192), Fired(384, 64, 256), Fired(512, 64, 256),
    )  # fmt: skip


def filled(net: str) -> nn.Sequential:
    """With drawn weights that keep the size of what passes, so that no layer's part vanishes."""
    network, random = torchvision_features(net), torch.Generator().manual_seed(3)
    for value in network.state_dict().values():
        fan = value[0].numel() if value.ndim > 1 else 50
        value.copy_(torch.randn(value.shape, generator=random) * (2 / fan) ** 0.5)
    return network.eval()


@pytest.fixture(scope="session")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], str]:
    """The file of a network's weights, in torch's form."""
    folder = tmp_path_factory.mktemp("lpips")

    def file(net: str) -> str:
        path = folder / f"{net}.pth"
        if not path.exists():
            torch.save({f"features.{name}": value for name, value in filled(net).state_dict().items()}, path)
        return str(path)

    return file


def made(**params: Any) -> Lpips:
    return Lpips(Lpips.Params.model_validate({"download": False, **params}))


def drawn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def reference(monkeypatch: pytest.MonkeyPatch, net: str) -> Callable[[torch.Tensor, torch.Tensor], torch.Tensor]:
    """torchmetrics' module and its published heads, around the network written here."""
    monkeypatch.setattr(torchmetrics_lpips, "_get_tv_model_features", lambda *_, **__: filled(net))
    module = torchmetrics_lpips._LPIPS(net=net, pnet_rand=True)  # type: ignore[arg-type]

    def distances(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return module(x.expand(-1, 3, -1, -1), y.expand(-1, 3, -1, -1), normalize=True).flatten()

    return distances


@pytest.mark.parametrize("net", NETS)
def test_every_network_agrees_with_torchmetrics(
    net: str, weights: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    truth, metric = reference(monkeypatch, net), made(net=net, weights=weights(net))
    for shape in ((2, 3, 64, 64), (1, 3, 67, 80)):
        images = drawn(*shape)
        for perturbed in (drawn(*shape, seed=1), (images + 0.05 * drawn(*shape, seed=2)).clamp(0, 1)):
            expected = truth(images, perturbed)
            assert (expected > 1e-5).all()
            assert metric(images, perturbed).tolist() == pytest.approx(expected.tolist(), rel=1e-4)


@pytest.mark.data
@pytest.mark.parametrize("data", [Mnist, Cifar10])
def test_real_images_are_enlarged(
    data: type[Dataset], data_dir: Path, weights: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = data(data.Params.model_validate({"download": False, "data_dir": str(data_dir)}))
    images, truth = opened.read(range(4)).images, reference(monkeypatch, "alex")
    perturbed = (images + 0.2 * (drawn(*images.shape) - 0.5)).clamp(0, 1)
    for side in (64, 100):
        pair = (interpolate(part, (side, side), mode="bilinear", align_corners=False) for part in (images, perturbed))
        expected = truth(*pair).tolist()
        assert made(weights=weights("alex"), side=side)(images, perturbed).tolist() == pytest.approx(expected, rel=1e-4)


def test_small_images_keep_their_proportions(weights: Callable[[str], str], monkeypatch: pytest.MonkeyPatch) -> None:
    truth, metric = reference(monkeypatch, "alex"), made(weights=weights("alex"), side=31)
    wide = drawn(2, 1, 8, 12), drawn(2, 1, 8, 12, seed=1)
    pair = (interpolate(part, (31, 46), mode="bilinear", align_corners=False) for part in wide)
    assert metric(*wide).tolist() == pytest.approx(truth(*pair).tolist(), rel=1e-4)
    large = drawn(1, 3, 31, 40), drawn(1, 3, 31, 40, seed=1)
    assert metric(*large).tolist() == pytest.approx(truth(*large).tolist(), rel=1e-4)  # as it is


def test_equal_images_have_0_and_the_order_does_not_count(weights: Callable[[str], str]) -> None:
    metric, images = made(weights=weights("alex"), side=31), Digits().read(range(3)).images
    assert metric(images, images.clone()).tolist() == [0] * 3
    assert torch.equal(metric(images, images.roll(1, 0)), metric(images.roll(1, 0), images))
    assert metric(images[:0], images[:0]).shape == (0,)
    steps = [metric(images, (1 - size) * images + size * images.roll(1, 0)) for size in (0.1, 0.4, 1)]
    assert (steps[0] < steps[1]).all()
    assert (steps[1] < steps[2]).all()


def test_the_gradient_is_that_of_finite_differences(weights: Callable[[str], str]) -> None:
    metric = made(weights=weights("alex"), side=31)
    images, step = drawn(2, 3, 16, 16).double(), drawn(2, 3, 16, 16, seed=2).double() - 0.5
    perturbed = drawn(2, 3, 16, 16, seed=1).double().requires_grad_()
    metric(images, perturbed).sum().backward()  # type: ignore[no-untyped-call]
    assert perturbed.grad is not None
    with torch.no_grad():
        there, back = (metric(images, perturbed + side * 1e-6 * step).sum().item() for side in (1, -1))
    assert (perturbed.grad * step).sum().item() == pytest.approx((there - back) / 2e-6, rel=1e-4)

    same = images.clone().requires_grad_()
    metric(images, same).sum().backward()  # type: ignore[no-untyped-call]
    assert same.grad is not None
    assert same.grad.abs().max() == 0


def test_nan_never_scores_and_stays_in_its_image(weights: Callable[[str], str]) -> None:
    metric, pair = made(weights=weights("alex")), [drawn(3, 3, 70, 70), drawn(3, 3, 70, 70, seed=1)]
    for place in (0, 1):
        broken = [part.clone() for part in pair]
        broken[place][1, 0, 69, 69] = float("nan")  # where the strides of the first layer do not reach
        assert metric(*broken).isnan().tolist() == [False, True, False]


def test_a_batch_in_parts_has_the_same_values(weights: Callable[[str], str], monkeypatch: pytest.MonkeyPatch) -> None:
    metric, pair = made(weights=weights("alex")), (drawn(5, 1, 8, 8), drawn(5, 1, 8, 8, seed=1))
    whole = metric(*pair)
    monkeypatch.setattr("charpy_plugins.metrics.lpips.PIXELS", 2 * 64 * 64)
    assert metric(*pair).tolist() == pytest.approx(whole.tolist(), rel=1e-5)


def test_without_weights_it_is_refused_with_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pair = [torch.zeros(1, 3, 64, 64)] * 2
    for folder in (None, str(tmp_path)):
        monkeypatch.delenv("CHARPY_DATA", raising=False)
        with pytest.raises(DataError, match=r"alexnet-owt-7be5be79.pth(.|\n)*next: .*weights: PATH"):
            made(data_dir=folder)(*pair)
    with pytest.raises(ModelError, match="no such weight file"):
        made(weights=str(tmp_path / "none.pth"))(*pair)


def test_a_download_that_fails_is_refused_with_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(address: str, *rest: Any) -> str:
        assert address == "https://download.pytorch.org/models/squeezenet1_1-b8a52dc0.pth"
        raise ConnectionError

    monkeypatch.delenv("CHARPY_DATA", raising=False)
    monkeypatch.setattr("pooch.retrieve", offline)
    with pytest.raises(DataError, match=r"not downloaded: .*ConnectionError(.|\n)*weights: PATH"):
        made(net="squeeze", download=True)(*[torch.zeros(1, 3, 64, 64)] * 2)


def test_only_the_published_file_is_taken_from_the_data_folder(
    tmp_path: Path, weights: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    content, pair = Path(weights("squeeze")).read_bytes(), (drawn(1, 3, 64, 64), drawn(1, 3, 64, 64, seed=1))
    (tmp_path / "lpips").mkdir()
    (tmp_path / "lpips" / PUBLISHED["squeeze"].filename).write_bytes(content)
    with pytest.raises(UnsafeFileError, match=r"begins with b8a52dc0(.|\n)*weights: PATH"):
        made(net="squeeze", data_dir=str(tmp_path))(*pair)

    published = Published(f"drawn-{sha256(content).hexdigest()[:8]}.pth", PUBLISHED["squeeze"].taps)
    monkeypatch.setitem(PUBLISHED, "squeeze", published)
    monkeypatch.setenv("CHARPY_DATA", str(tmp_path))
    (tmp_path / "lpips" / published.filename).write_bytes(content)
    expected = made(net="squeeze", weights=weights("squeeze"))(*pair)
    assert torch.equal(made(net="squeeze")(*pair), expected)


def test_weights_of_other_forms_and_of_another_network(weights: Callable[[str], str], tmp_path: Path) -> None:
    pair = (drawn(1, 3, 64, 64), drawn(1, 3, 64, 64, seed=1))
    state = {f"features.{name}": value for name, value in filled("squeeze").state_dict().items()}
    save_file(state, tmp_path / "squeeze.safetensors")
    found = made(net="squeeze", weights=str(tmp_path / "squeeze.safetensors"))(*pair)
    assert torch.equal(found, made(net="squeeze", weights=weights("squeeze"))(*pair))
    with pytest.raises(ModelError, match=r"features.0.weight: \(64, 3, 3, 3\)(.|\n)*torchvision's alexnet"):
        made(net="alex", weights=weights("squeeze"))(*pair)


def test_it_says_what_it_is_and_refuses_what_it_cannot_use() -> None:
    metric = registry().create("metrics", "lpips", {})
    assert isinstance(metric, Lpips)
    assert (metric.direction, metric.range[0], metric.unit) == (Direction.DISTANCE, 0, "1")
    with pytest.raises(DataError, match="2 channels"):
        metric(torch.zeros(1, 2, 64, 64), torch.zeros(1, 2, 64, 64))
    with pytest.raises(DataError, match="pairs of images"):
        metric(torch.zeros(1, 3, 8, 8), torch.zeros(1, 1, 8, 8))
    for wrong in ({"net": "resnet"}, {"side": 30}):
        with pytest.raises(SpecError):
            parse(Lpips.Params, wrong)


def test_naming_the_metric_does_not_load_torchmetrics() -> None:
    code = "import sys, charpy_plugins.metrics.lpips; sys.exit('torchmetrics' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0

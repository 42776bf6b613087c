"""Total variance minimisation: what is dropped, and what an answer is made of."""

from __future__ import annotations

import torch

from charpy.testing.linear import LinearClassifier
from charpy.transforms import Draw
from charpy_plugins.defenses.tvm import Tvm
from charpy_plugins.filters.total_variation import least_variation


def tvm(**params):
    return Tvm(Tvm.Params(**params))


def drawn(*shape):
    return torch.rand(shape, generator=torch.Generator().manual_seed(0))


def test_the_share_that_is_dropped_is_the_probability():
    images = drawn(2, 3, 40, 40)
    for drop in (0.0, 0.2, 0.5):
        shares = []
        for number in range(3):
            kept = Draw(7, number, images.device).uniform("kept", 3, 40, 40) >= drop
            found = tvm(drop=drop, seed=7, steps=5).transform(images, Draw(7, number, images.device))
            assert torch.equal(found, least_variation(images, kept[None], 0.03, "rows", 5).clamp(0, 1))
            shares.append(float(kept.float().mean()))
        assert all(abs(share - (1 - drop)) < 0.03 for share in shares)


def test_nothing_dropped_and_no_weight_is_the_image_itself():
    images = drawn(3, 1, 9, 9)
    found = tvm(drop=0, weight=1e-5, steps=300).transform(images, Draw(0, 0, images.device))
    torch.testing.assert_close(found, images, atol=1e-3, rtol=0)


def test_a_dropped_value_cannot_be_used_by_an_adversary():
    images = drawn(4, 1, 8, 8)
    model = tvm(draws=1, seed=2).wrap(
        LinearClassifier(torch.randn(3, 1, 8, 8, generator=torch.Generator().manual_seed(1)))
    )
    kept = Draw(2, 0, images.device).uniform("kept", 1, 8, 8) >= 0.5
    moved = torch.where(kept, images, 1 - images)
    assert torch.equal(model.predict(moved), model.predict(images))
    several = tvm(draws=9, seed=2).wrap(model.base)
    assert not torch.equal(several.predict(moved), several.predict(images))


def test_noise_is_removed():
    clean = torch.zeros(4, 1, 16, 16)
    clean[..., 4:12, 5:11] = 1.0
    noisy = (clean + 0.1 * torch.randn(clean.shape, generator=torch.Generator().manual_seed(3))).clamp(0, 1)
    found = tvm(drop=0.3, weight=0.1).transform(noisy, Draw(0, 0, clean.device))
    assert (found - clean).square().mean() < 0.7 * (noisy - clean).square().mean()

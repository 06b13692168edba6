"""Saliency models, masks and the foreground score."""

import pytest
import torch
from PIL import Image
from torch import nn

from assay.data import load
from assay.masks import (
    ForegroundScore,
    Learned,
    SpectralResidual,
    folder_masks,
    foreground_score,
    gaussian_centre_bias,
    salient_mask,
    threshold_mask,
)


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 32, 32), (3, 40, 24), (1, 96, 96)])
@pytest.mark.parametrize(
    "model", [SpectralResidual(), SpectralResidual(64, centre=None, window=0.0)], ids=["default", "plain"]
)
def test_a_density_sums_to_one_and_is_differentiable(model, shape):
    x = torch.rand(3, *shape, dtype=torch.float64, requires_grad=True)
    density = model(x)
    assert density.shape == (3, 1, *shape[1:])
    assert density.min() >= 0
    assert torch.allclose(density.flatten(1).sum(1), torch.ones(3, dtype=torch.float64))
    (grad,) = torch.autograd.grad(density[:, :, 2, 3].sum(), x)
    assert grad.isfinite().all()
    assert grad.abs().sum() > 0


def test_gradient_by_finite_differences():
    model, x = SpectralResidual(16), torch.rand(1, 1, 16, 16, dtype=torch.float64)
    mask = (torch.rand(1, 1, 16, 16) > 0.5).double()
    assert torch.autograd.gradcheck(lambda z: foreground_score(model, z, mask), x.requires_grad_(), atol=1e-4)


def test_flat_and_extreme_images_stay_finite():
    for value in (0.0, 0.5, 1.0):
        x = torch.full((1, 3, 32, 32), value, requires_grad=True)
        density = SpectralResidual()(x)
        (grad,) = torch.autograd.grad(density.square().sum(), x)
        assert density.isfinite().all()
        assert grad.isfinite().all()


def test_rows_do_not_touch_each_other():
    x = torch.rand(4, 3, 24, 24)
    whole = SpectralResidual()(x)
    assert torch.allclose(SpectralResidual()(x[2:3]), whole[2:3], atol=1e-9)


def test_it_finds_objects():
    """On made scenes the foreground gets clearly more of the density than its share of the area."""
    data = load("scenes:size=32,count=100", split="train")
    mask = data.masks.float()
    score = foreground_score(SpectralResidual(), data.images(), mask).mean()
    assert score > 1.6 * mask.mean()


def test_threshold_is_half_way_between_the_extremes():
    density = torch.tensor([[[[0.0, 0.2], [0.5, 1.0]]], [[[3.0, 3.0], [3.0, 3.0]]]])
    assert threshold_mask(density).flatten(1).tolist() == [[0, 0, 0, 1], [1, 1, 1, 1]]
    assert salient_mask(SpectralResidual(), torch.rand(0, 1, 9, 9)).shape == (0, 1, 9, 9)
    with pytest.raises(ValueError, match="density: expected a tensor of shape"):
        threshold_mask(torch.rand(4, 4))


class Bright(nn.Module):
    def forward(self, x):
        return x.mean(1, keepdim=True)


@pytest.mark.parametrize("kind", ["logits", "log-density", "density"])
@pytest.mark.parametrize("bias", [None, gaussian_centre_bias(5, 5)], ids=["none", "centre"])
def test_learned_models_become_densities(kind, bias):
    x = torch.rand(2, 3, 20, 20)
    density = Learned(Bright(), kind=kind, centre_bias=bias, size=10, sigma=1.0)(x)
    assert density.shape == (2, 1, 20, 20)
    assert torch.allclose(density.flatten(1).sum(1), torch.ones(2), atol=1e-5)
    assert density.min() >= 0


def test_centre_bias_moves_the_gaze_to_the_middle():
    x = torch.rand(4, 1, 21, 21)
    centre = torch.zeros(4, 1, 21, 21)
    centre[:, :, 7:14, 7:14] = 1
    with_bias = foreground_score(Learned(Bright(), centre_bias=gaussian_centre_bias(21, 21)), x, centre)
    assert (with_bias > foreground_score(Learned(Bright()), x, centre)).all()


def test_a_network_of_the_wrong_shape_is_named():
    with pytest.raises(ValueError, match="network: expected a map of shape"):
        Learned(nn.Identity())(torch.rand(1, 3, 8, 8))
    with pytest.raises(ValueError, match="kind: expected"):
        Learned(Bright(), kind="heat")
    with pytest.raises(ValueError, match="centre_bias: expected"):
        Learned(Bright(), centre_bias=torch.zeros(3))


def test_score_is_equation_three_by_hand():
    class Known(nn.Module):
        def forward(self, x):
            return torch.tensor([[[[0.1, 0.2], [0.3, 0.4]]]]).expand(len(x), 1, 2, 2)

    mask = torch.tensor([[[[1.0, 0], [0, 1.0]]]])
    assert torch.isclose(foreground_score(Known(), torch.zeros(1, 3, 2, 2), mask)[0], torch.tensor(0.5))
    assert ForegroundScore(Known()).needs == ("mask",)


def test_masks_from_a_folder(tmp_path):
    for name, value in (("a", 255), ("b", 0)):
        Image.new("L", (6, 4), value).save(tmp_path / f"{name}.png")
    masks = folder_masks(tmp_path, ["b", "a"], (4, 6))
    assert masks.flatten(1).mean(1).tolist() == [0, 1]
    with pytest.raises(ValueError, match="folder: expected a mask image for 'c'"):
        folder_masks(tmp_path, ["c"], (4, 6))
    with pytest.raises(ValueError, match="folder: expected masks of 5×6 pixels"):
        folder_masks(tmp_path, ["a"], (5, 6))
    with pytest.raises(ValueError, match="folder: expected a mask image"):
        folder_masks(tmp_path, ["../a"], (4, 6))
    (tmp_path / "d.png").write_bytes(b"not an image")
    with pytest.raises(ValueError, match="folder: expected a readable image for 'd'"):
        folder_masks(tmp_path, ["d"], (4, 6))
    with pytest.raises(ValueError, match="folder: expected a folder"):
        folder_masks(tmp_path / "none", ["a"], (4, 6))

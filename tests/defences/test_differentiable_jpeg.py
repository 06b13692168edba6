"""The differentiable coder against a real one, and attacks through it."""

import pytest
import torch

import assay
from assay.data import load
from assay.defences import adaptation_of, defend
from assay.defences.differentiable_jpeg import DifferentiableJpeg
from assay.defences.transforms import Jpeg
from assay.models import build

SCENES = load("scenes:size=32,count=24", split="test")


@pytest.mark.parametrize("quality", [10, 40, 60, 75, 90])
@pytest.mark.parametrize("channels", [1, 3])
def test_with_exact_rounding_it_is_the_coder_s_image(quality, channels):
    """Pillow's coder works with whole numbers: where one rounds to the other side, its block differs a little."""
    x = SCENES.images()[:, :channels]
    real, ours = Jpeg(quality)(x), DifferentiableJpeg(quality, exact=True)(x)
    apart = 255 * (real - ours).abs()
    assert float(apart.mean()) < (0.6 if channels == 1 else 1.3)
    assert float((apart <= 3).float().mean()) > (0.98 if channels == 1 else 0.92)


@pytest.mark.parametrize("size", [(32, 32), (29, 30), (9, 7)])
def test_sizes_that_no_block_fits(size):
    x = torch.rand(2, 3, *size, generator=torch.Generator().manual_seed(0))
    assert DifferentiableJpeg(50)(x).shape == x.shape
    smooth = torch.nn.functional.avg_pool2d(x, 3, 1, 1)  # noise is what coders are worst at
    assert float((DifferentiableJpeg(95, exact=True)(smooth) - smooth).abs().mean()) < 0.06


def test_the_cubic_rounding_is_near_the_exact_one():
    x = SCENES.images()
    near, exact = DifferentiableJpeg(60)(x), DifferentiableJpeg(60, exact=True)(x)
    assert float((near - exact).abs().mean()) < 0.01
    assert not torch.equal(near, exact)


def test_its_gradient_is_that_of_finite_differences():
    x = (0.25 + 0.5 * SCENES.images(slice(0, 2))).double().requires_grad_()  # nothing is cut at 0 or 1
    probe = torch.randn(x.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    way = torch.randn(x.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    coder = DifferentiableJpeg(70)
    (slope,) = torch.autograd.grad((coder(x) * probe).sum(), x)
    with torch.no_grad():
        numeric = ((coder(x + 1e-7 * way) - coder(x - 1e-7 * way)) * probe).sum() / 2e-7
    assert float((slope * way).sum()) == pytest.approx(float(numeric), rel=1e-3)


def test_an_attack_can_take_its_gradient():
    model = build("tiny-cnn", channels=3, classes=8, size=32).eval()
    x, y = SCENES.images(slice(0, 6)), SCENES.y[:6]
    with torch.no_grad():
        y = model(Jpeg(60)(x)).argmax(1)
    defended = defend(model, "jpeg:quality=60,gradient=smooth")
    adaptation = adaptation_of(defended)
    assert "backward through DifferentiableJpeg(quality=60" in adaptation.how
    with torch.no_grad():
        assert torch.allclose(adaptation.surrogate(x), defended(x), atol=1e-4)
    attack = adaptation.adapt(assay.PGD(16 / 255, steps=10))
    outcome = assay.attack(defended, x, y, attack, surrogate=adaptation.surrogate, preflight=False)
    assert outcome.robust_accuracy < 1
    with pytest.raises(ValueError, match="gradient: expected one of 'identity', 'smooth'"):
        defend(model, "jpeg:gradient=none")

"""Denoisers before a classifier: any network can be smoothed."""

import pytest
import torch
from torch import nn

from assay import PGD, attack, certified
from assay.defences import Denoised, DiffusionDenoiser, Smoothed, adaptation_of

SIGMA, ALPHAS = 0.5, (0.9, 0.5)


class Bright(nn.Module):
    """Class 0 of bright images; never trained on noise, of which an even number of values turns it round."""

    def forward(self, x):
        z = 40 * (x.mean((1, 2, 3)) - 0.5)
        noisy = (x[:, :, 1:] - x[:, :, :-1]).abs().mean((1, 2, 3)) > 0.2
        z = torch.where(noisy, -z, z)
        return torch.stack([z, -z], 1)


class Mean(nn.Module):
    """The best denoiser of flat images."""

    def forward(self, x):
        return x.mean((1, 2, 3), keepdim=True).expand_as(x)


def flat(*values):
    return torch.tensor(values).view(-1, 1, 1, 1).expand(-1, 1, 8, 8).contiguous()


def test_a_network_that_was_never_trained_on_noise_gets_a_radius():
    x = flat(0.9, 0.2)
    bare = Smoothed(Bright(), SIGMA).certify(x, n=400)
    denoised = Smoothed(Denoised(Bright(), Mean()), SIGMA).certify(x, n=400)
    assert bare.label.tolist() == [1, 0]  # noise turns its answers round
    assert denoised.label.tolist() == [0, 1]
    assert bool((denoised.radius > 1).all())


def test_attacks_go_through_the_denoiser():
    x, y = flat(0.55, 0.45), torch.tensor([0, 1])
    smooth = Smoothed(Denoised(Bright(), Mean()), SIGMA, draws=8)
    surrogate = adaptation_of(smooth).surrogate
    outcome = attack(smooth, x, y, PGD(0.2, steps=10), surrogate=surrogate, preflight=False)
    assert outcome.robust_accuracy == 0.0


class Expecting(nn.Module):
    """The noise that makes an image of one value what it is."""

    def __init__(self, value, alphas, more=0):
        super().__init__()
        self.value, self.alphas, self.more, self.times = 2 * value - 1, alphas, more, []

    def forward(self, x, t):
        self.times.append(t.tolist())
        a = self.alphas[t].view(-1, 1, 1, 1).to(x)
        noise = (x - a.sqrt() * self.value) / (1 - a).sqrt()
        return torch.cat([noise, torch.ones_like(noise)], 1) if self.more else noise


@pytest.mark.parametrize("more", [0, 1])
@pytest.mark.parametrize("sigma", [0.1, 0.25, 0.5])
def test_one_step_of_diffusion_takes_the_noise_off(sigma, more):
    alphas = torch.linspace(0.9999, 0.001, 1000, dtype=torch.float64)
    network = Expecting(0.7, alphas, more)
    noisy = flat(0.7, 0.7) + sigma * torch.randn(2, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    clean = DiffusionDenoiser(network, alphas, sigma)(noisy)
    assert torch.allclose(clean, flat(0.7, 0.7), atol=1e-4)
    ((first, second),) = network.times
    assert first == second
    assert ((1 - alphas[first]) / alphas[first]) ** 0.5 == pytest.approx(2 * sigma, rel=0.01)


class Threefold(nn.Module):
    """Three channels of noise for one."""

    def forward(self, x, t):
        return torch.cat([x, x, x], 1)


def test_a_denoised_network_is_bounded_as_its_layers_are():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.ReLU(), nn.Linear(8, 2)).eval()
    model, x = Denoised(net, nn.AvgPool2d(3, 1, 1)), torch.rand(3, 1, 8, 8)
    y = model(x).argmax(1)
    assert certified(model, x, y, "ibp, crown", eps=1e-3).certified.all()


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: Denoised(Bright(), lambda x: x), TypeError, "denoiser: expected a torch.nn.Module"),
        (lambda: Denoised(Bright(), nn.Flatten())(flat(0.5)), ValueError, r"denoiser: expected images of the shape"),
        (lambda: DiffusionDenoiser(3, [0.9, 0.1], 0.1), TypeError, "network: expected"),
        (lambda: DiffusionDenoiser(Mean(), [0.1, 0.9], 0.1), ValueError, "alphas: expected falling numbers"),
        (lambda: DiffusionDenoiser(Mean(), [], 0.1), ValueError, "alphas: expected falling numbers"),
        (lambda: DiffusionDenoiser(Mean(), ["a"], 0.1), TypeError, "alphas: expected falling numbers"),
        (lambda: DiffusionDenoiser(Mean(), None, 0.1), TypeError, "alphas: expected falling numbers"),
        (lambda: DiffusionDenoiser(Mean(), [0.5, 0.5], 0.1), ValueError, "got numbers that do not fall"),
        (lambda: DiffusionDenoiser(Mean(), torch.rand(2, 2), 0.1), ValueError, r"got shape \(2, 2\)"),
        (lambda: DiffusionDenoiser(Mean(), [1.5, 0.5], 0.1), ValueError, r"got 1\.5 among them"),
        (
            lambda: DiffusionDenoiser(Threefold(), [0.9, 0.5], 0.2)(flat(0.5)),
            ValueError,
            "network: expected 1 channels",
        ),
        (
            lambda: Smoothed(Denoised(Bright(), DiffusionDenoiser(Mean(), [0.9, 0.5], 0.5)), 0.25),
            ValueError,
            "sigma: exp",
        ),
        (lambda: DiffusionDenoiser(Mean(), [0.9, 0.5], 0.6), ValueError, r"sigma: expected at most 0\.5"),
        (lambda: DiffusionDenoiser(Mean(), [0.9, 0.5], 0), ValueError, "sigma: expected"),
    ],
)
def test_wrong_arguments(make, error, message):
    with pytest.raises(error, match=message):
        make()

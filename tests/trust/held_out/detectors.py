"""Classifiers that refuse images, and attacks that do not take this into account, or cannot."""

from functools import lru_cache

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from assay.attacks import APGD
from assay.defences import Adaptation
from assay.defences.detectors import Detector, Guarded, accepted
from assay.defences.transforms import BitDepth
from assay.engine.api import attack, perturb
from assay.parts.losses import Evasion
from trust.failures.base import SETTINGS, Case, Failure, images, network
from trust.held_out.parts import GRADIENT, Shell, fit, fresh, left_by, straight, training

KIND = "detectors"


class Refusing(Guarded):
    """A guarded classifier with a way to be attacked of its owner's choice."""

    def __init__(self, model: nn.Module, score: nn.Module, how: str, **rest) -> None:
        super().__init__(model, score)
        self.how, self.rest = how, rest

    def adaptation(self) -> Adaptation:
        return Adaptation(self.how, test=accepted, **self.rest)


class Never(nn.Module):
    """The classifier with a refusal that is never the answer."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        z = self.model(x)
        return torch.cat([z, z.amin(1, keepdim=True) - 10], 1)


def joint(model: nn.Module, seen: nn.Module, setting: str) -> float:
    """The share that an attack on classifier and detector at once leaves, and one on the classifier alone."""
    (x, y), chosen = images(setting), SETTINGS[setting]
    both = [APGD(chosen.eps, norm=chosen.norm, steps=60, loss=Evasion(), targets=n) for n in (0, 5)]
    left = left_by(both, model, x, y, surrogate=seen, test=accepted)
    alone = [APGD(chosen.eps, norm=chosen.norm, steps=60, loss=loss) for loss in ("ce", "margin")]
    left &= left_by(alone, model, x, y, surrogate=Never(model.model), test=accepted)
    return float(left.float().mean())


@lru_cache
def _learned(setting: str) -> nn.Module:
    """A network that tells clean from attacked images of the training set."""
    x, y = training(setting)
    x, y, chosen = x[:400], y[:400], SETTINGS[setting]
    bad = perturb(network(setting), x, y, APGD(chosen.eps, norm=chosen.norm, steps=10), seed=0)
    both, is_bad = torch.cat([x, bad]), torch.cat([torch.zeros(len(x)), torch.ones(len(x))])
    detector = fresh(lambda: Detector(x.shape[1], x.shape[2], 16))
    fit(detector, lambda at: F.binary_cross_entropy_with_logits(detector(both[at]), is_bad[at]), len(both), epochs=12)
    with torch.no_grad():
        detector.threshold = float(detector(x).quantile(0.97))
    return detector


def unaware() -> Case:
    """A learned detector, of which the attack is not told."""
    net, setting = network("digits"), "digits"
    detector = _learned(setting)
    model = Refusing(net, detector, "attacks on the classifier", surrogate=Never(net))
    return Case(model, setting, truth=lambda: joint(model, Guarded(net, detector), setting))


def hard_score() -> Case:
    """A learned detector that says yes or no, attacked jointly as far as that has a gradient."""
    net, setting = network("digits plain"), "digits plain"
    detector = _learned(setting)
    hard = Shell(lambda x: 3 * detector(x).detach().sign(), detector)
    model = Refusing(net, hard, "joint attack on both", objective=Evasion(), methods=("joint",))
    return Case(model, setting, truth=lambda: joint(model, Guarded(net, detector), setting))


def squeezing() -> Case:
    """Feature squeezing by classes: the image in black and white must look the same; that has no gradient."""
    net, squeeze = network("digits"), BitDepth(1)
    score = Shell(lambda x: (net(squeeze(x)).argmax(1) != net(x).argmax(1)).float() - 0.5, net)
    model = Refusing(net, score, "joint attack: wrong and not refused", objective=Evasion(), methods=("joint",))
    seen = Never(Shell(lambda x: net(x) + net(straight(x, squeeze)), net))
    return Case(model, attacks=GRADIENT, seen=seen)


def _off_grid(x: Tensor) -> Tensor:
    """Above 0 where a pixel is none of the scanner's 17 levels."""
    return (16 * x - (16 * x).round()).abs().flatten(1).amax(1) - 1e-3


def off_grid() -> Case:
    """Images that no scanner makes are refused."""
    net, (x, y), eps = network("digits"), images("digits"), SETTINGS["digits"].eps
    model = Refusing(net, Shell(_off_grid), "joint attack: wrong and not refused", objective=Evasion())
    rounded = Shell(lambda image: net(straight(image, lambda v: (16 * v).round() / 16)), net)

    def truth() -> float:
        left = torch.ones(len(x), dtype=torch.bool)
        for loss in ("ce", "dlr"):
            adversarial = attack(rounded, x, y, APGD(eps, steps=60, loss=loss), preflight=False).images
            adversarial = (16 * adversarial).round() / 16
            assert float((adversarial - x).abs().max()) <= eps + 1e-6
            with torch.no_grad():
                left &= model(adversarial).argmax(1) == y
        return float(left.float().mean())

    return Case(model, attacks=GRADIENT, truth=truth)


def not_confident() -> Case:
    """Answers that are not confident are refused; the attacks are those that stop at the boundary."""
    net, setting = network("digits"), "digits"
    score = Shell(lambda x: 0.5 - net(x).softmax(1).amax(1), net)
    model = Refusing(net, score, "attacks to the nearest boundary", surrogate=Never(net))
    attacks = ("deepfool", "fab:steps=30")
    return Case(model, setting, attacks=attacks, truth=lambda: joint(model, Guarded(net, score), setting))


def two_agree() -> Case:
    """A second network has to agree; the attack is on the first."""
    net, second = network("digits l2"), network("digits")

    def differ(x: Tensor) -> Tensor:
        return (net(x).argmax(1) != second(x).argmax(1)).float() - 0.5

    def agreement(x: Tensor) -> Tensor:
        return Never(Shell(lambda image: net(image).log_softmax(1) + second(image).log_softmax(1)))(x)

    model = Refusing(net, Shell(differ, net, second), "attack on the classifier", surrogate=Never(net))
    return Case(model, "digits l2", attacks=GRADIENT, seen=Shell(agreement, net, second))


def _noises(x: Tensor, count: int = 6) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return 0.08 * torch.randn(count, 1, *x.shape[1:], generator=generator)


def stable() -> Case:
    """Answers that change under a little noise are refused; votes have no gradient."""
    net, setting = network("digits"), "digits"

    def answers(x: Tensor) -> Tensor:
        noisy = (x + _noises(x)).flatten(0, 1)
        return net(noisy).view(-1, len(x), 10)

    def unstable(x: Tensor) -> Tensor:
        same = answers(x).argmax(2) == net(x).argmax(1)
        return 0.8 - same.float().mean(0)

    model = Refusing(net, Shell(unstable, net), "joint attack: wrong and not refused", objective=Evasion())
    seen = Shell(lambda x: Never(Shell(lambda image: answers(image).mean(0)))(x), net)
    return Case(model, setting, attacks=GRADIENT, seen=seen)


def lookalikes() -> Case:
    """The nearest image of the training set must have the predicted class; the attack is on the network."""
    net, (known, of) = network("digits plain"), training("digits plain")

    def foreign(x: Tensor) -> Tensor:
        apart = torch.cdist(x.flatten(1), known.flatten(1))
        own = apart.masked_fill(of[None] != net(x).argmax(1)[:, None], torch.inf).amin(1)
        return (own / apart.amin(1) - 1.1).detach()

    def nearer(x: Tensor) -> Tensor:
        apart = torch.cdist(x.flatten(1), known.flatten(1))
        each = torch.stack([apart[:, of == k].amin(1) for k in range(10)], 1)
        return Never(Shell(lambda image: net(image) - 4 * each))(x)

    model = Refusing(net, Shell(foreign, net), "attack on the classifier", surrogate=Never(net))
    return Case(model, "digits plain", attacks=GRADIENT, seen=Shell(nearer, net), eps=0.2)


FAILURES = (
    Failure("detector unknown to the attack", KIND, unaware),
    Failure("detector that says yes or no", KIND, hard_score),
    Failure("squeezing without its gradient", KIND, squeezing),
    Failure("images off the grid are refused", KIND, off_grid),
    Failure("boundary attacks against a confident classifier", KIND, not_confident),
    Failure("second network has to agree", KIND, two_agree),
    Failure("unstable answers are refused", KIND, stable),
    Failure("nearest neighbour has to agree", KIND, lookalikes),
)

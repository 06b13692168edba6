"""Attacks that are too weak, by choice or by a bug."""

from dataclasses import dataclass, replace

from torch import Tensor

from assay.attacks import PGD
from assay.attacks.plan import Planned, plan
from assay.core.attack import Attack
from assay.core.combinators import Stage, Variant
from assay.core.objective import Objective
from assay.parts.losses import CrossEntropy, Margin
from assay.parts.step_rules import Ascent, Move
from trust.failures.base import SETTINGS, Case, Failure, network
from trust.held_out.parts import Declared

KIND = "weak attacks"


def _case(setting: str, *attacks) -> Case:
    return Case(network(setting), setting, attacks=attacks)


def _ruled(setting: str, rule: type[Ascent], steps: int = 20) -> Planned:
    """PGD with a step rule of one's own."""
    chosen = SETTINGS[setting]
    planned = plan(f"pgd:steps={steps}", eps=chosen.eps, norm=chosen.norm)
    plain = planned.attack.rule
    return replace(planned, attack=replace(planned.attack, rule=rule(plain.geometry, plain.rate, plain.steps)))


def two_steps() -> Case:
    """One step, and two."""
    return _case("digits", "fgsm", "pgd:steps=2")


def tiny_steps() -> Case:
    """Steps so small that they never leave the middle of the ball."""
    return _case("digits", "bim:steps=20,step_size=0.004", "mim:steps=10,step_size=0.006")


def few_queries() -> Case:
    """Attacks by scores and labels alone, with few queries."""
    return _case("digits l2", "square:queries=60", "nes:queries=300", "hopskipjump:queries=200")


def wrong_sign() -> Case:
    """The loss is descended."""
    eps = SETTINGS["digits"].eps
    down = plan("pgd:steps=40", eps=eps)
    wrong = replace(down, attack=PGD(eps, steps=40, loss=-1.0 * CrossEntropy()))
    return _case("digits", wrong, "fgsm")


def standing_still() -> Case:
    """A divergence from the clean answer, started at the clean image, where its slope is nothing."""
    return _case("digits plain", "pgd:steps=40,loss=kl,random_start=false", "noise")


def patch_of_the_ball() -> Case:
    """Changes are within the budget, and on a few pixels that are drawn."""
    return _case("digits", "patch:side=4,eps=0.25", "gaussian-noise")


def nearest_boundary() -> Case:
    """One attack on linearised boundaries, which gives up early."""
    return _case("digits l2", "deepfool:norm=l2,steps=20")


@dataclass(frozen=True)
class Forgetful(Ascent):
    """Every step sets out from the clean image again."""

    def update(self, move: Move, state: tuple[()]) -> tuple[Tensor, tuple[()]]:
        back = move.rows.x if move.parameters.shape == move.rows.x.shape else 0
        towards = self.geometry.steepest(move.grad, move.parameters, move.rows, self.rate)
        return move.project(back + towards), ()


def forgetful() -> Case:
    """A loop that starts each step from the clean image."""
    return _case("scenes", _ruled("scenes", Forgetful, 40))


@dataclass(frozen=True)
class OfTheBatch(Ascent):
    """Steps are scaled by the largest gradient of the whole batch."""

    def update(self, move: Move, state: tuple[()]) -> tuple[Tensor, tuple[()]]:
        step = 0.25 * self.geometry.eps * move.grad / move.grad.abs().max().clamp_min(1e-30)
        return move.project(move.parameters + step), ()

    @property
    def scaled(self) -> bool:
        return True


def of_the_batch() -> Case:
    """Gradients are normalised over the batch and not image by image."""
    return _case("digits", _ruled("digits", OfTheBatch, 40))


@dataclass(frozen=True)
class Brighter(Ascent):
    """Only upward changes survive a clamp that was meant for the image."""

    def update(self, move: Move, state: tuple[()]) -> tuple[Tensor, tuple[()]]:
        towards = self.geometry.steepest(move.grad, move.parameters, move.rows, self.rate)
        moved = move.project(move.parameters + towards)
        return moved.maximum(move.rows.x), ()


def brighter() -> Case:
    """A clamp that is applied to the change leaves additions alone."""
    return _case("digits plain", _ruled("digits plain", Brighter, 40))


@dataclass(frozen=True)
class Rounded(Ascent):
    """Iterates are saved as eight-bit images, and steps are shorter than half a level."""

    def update(self, move: Move, state: tuple[()]) -> tuple[Tensor, tuple[()]]:
        towards = self.geometry.steepest(move.grad, move.parameters, move.rows, 0.2)
        return move.project((255 * (move.parameters + towards)).round() / 255), ()


def rounded() -> Case:
    """Every iterate is rounded to a level, and so to where it came from."""
    return _case("scenes plain", _ruled("scenes plain", Rounded, 40))


@dataclass(frozen=True)
class LastTarget:
    """An attack on one target alone: the class that is least likely."""

    attack: Attack

    def stages(self) -> tuple[Stage, ...]:
        return (Stage(self.attack, (Variant(0, 9),)),)

    def map(self, change) -> "LastTarget":
        return replace(self, attack=change(self.attack))

    def describe(self) -> str:
        return f"{self.attack.describe()} targeted"


def least_likely() -> Case:
    """One target is tried: the class that is least likely."""
    chosen = SETTINGS["digits l2"]
    planned = plan("pgd:steps=20", eps=chosen.eps, norm=chosen.norm)
    return _case("digits l2", replace(planned, attack=LastTarget(planned.attack.vary(objective=Margin()))))


@dataclass(frozen=True)
class Entropy:
    """How evenly the probability is spread: largest where no class is ahead, whichever is right."""

    needs: tuple[str, ...] = ()

    def __call__(self, logits: Tensor, x: Tensor, rows) -> Tensor:
        return -(logits.softmax(1) * logits.log_softmax(1)).sum(1)

    def describe(self) -> str:
        return "entropy"


def doubt() -> Case:
    """The declared objective is fulfilled as soon as an answer is in doubt."""
    model = Declared(network("digits"), "entropy of the answer", objective=Objective(((1.0, Entropy()),)))
    return Case(model, "digits", attacks=("pgd:steps=40", "apgd:steps=40"))


FAILURES = (
    Failure("one step and two", KIND, two_steps),
    Failure("tiny steps", KIND, tiny_steps),
    Failure("few queries", KIND, few_queries),
    Failure("loss descended", KIND, wrong_sign),
    Failure("start where the slope is nothing", KIND, standing_still),
    Failure("a patch of the ball", KIND, patch_of_the_ball),
    Failure("linearised boundary alone", KIND, nearest_boundary),
    Failure("each step from the clean image", KIND, forgetful),
    Failure("normalised over the batch", KIND, of_the_batch),
    Failure("additions alone", KIND, brighter),
    Failure("iterates rounded back", KIND, rounded),
    Failure("least likely target alone", KIND, least_likely),
    Failure("doubt as the objective", KIND, doubt),
)

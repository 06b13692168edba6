"""Regions that are not those of the threat model."""

from dataclasses import replace
from functools import lru_cache, partial

import torch
from torch import Tensor, nn

from assay.attacks import Patch
from assay.attacks.plan import plan
from assay.core.combinators import Restarts
from assay.data import load
from assay.engine.api import attack
from assay.trust import CheckContext
from trust.failures.base import SETTINGS, Case, Failure, images, network
from trust.held_out.claims import result_of
from trust.held_out.parts import left_by

KIND = "masks and regions"
ATTACKS = ("dual:steps=40", "dual-apgd:steps=40")


@lru_cache
def true_masks(setting: str = "scenes") -> Tensor:
    """The objects of the scenes, or the ink of the digits."""
    if setting == "scenes":
        return load(SETTINGS[setting].data, split="test", limit=64).masks.float()
    return (images(setting)[0] > 0.3).float()


def true_share(setting: str, front: float, back: float) -> float:
    """What strong attacks leave where the regions are the right ones."""
    specs = ("dual-apgd:steps=100", "dual:steps=100")
    what = [plan(spec, eps=front, eps_background=back).attack for spec in specs]
    left = left_by(what, network(setting), *images(setting), mask=true_masks(setting))
    return float(left.float().mean())


def _evaluate(context: CheckContext, front: float, back: float) -> CheckContext:
    """The same context with results of attacks on two regions."""
    results = []
    for spec in ATTACKS:
        planned = plan(spec, eps=front, eps_background=back)
        outcome = attack(context.model, context.x, context.y, planned.attack, mask=context.masks, preflight=False)
        results.append(result_of(planned, outcome))
    return replace(context, results=tuple(results))


def _case(masks: Tensor, front: float, back: float, setting: str = "scenes") -> Case:
    change = partial(_evaluate, front=front, back=back)
    truth = partial(true_share, setting, front, back)
    return Case(network(setting), setting, attacks=("fgsm",), masks=masks, change=change, truth=truth)


def shuffled() -> Case:
    """Masks in another order than the images."""
    order = torch.randperm(64, generator=torch.Generator().manual_seed(0))
    return _case(true_masks("digits")[order], 0.25, 0.0, "digits")


def some_slipped() -> Case:
    """Masks that slipped by seven from the twelfth image on; the attack is on the background."""
    masks = true_masks("digits plain").clone()
    masks[12:] = masks[12:].roll(7, 0)
    return _case(masks, 0.0, 0.25, "digits plain")


def two_annotators() -> Case:
    """Foreground is what two annotators agree on, one of whom was an image ahead."""
    masks = true_masks()
    return _case(masks * masks.roll(1, 0), 40 / 255, 0.0)


def wrong_origin() -> Case:
    """Masks whose origin is in the middle of the image."""
    return _case(true_masks().roll((8, 8), (2, 3)), 40 / 255, 0.0)


def next_to_nothing() -> Case:
    """Attacks on the foreground, of which only the middle is left."""
    masks, centre = true_masks(), torch.zeros(64, 1, 16, 16)
    for i, mask in enumerate(masks):
        row, column = mask[0].nonzero().float().mean(0).round().long().tolist()
        centre[i, 0, row : row + 2, column : column + 2] = 1
    return _case(centre * masks.amax(), 16 / 255, 0.0)


def inside_out() -> Case:
    """Foreground and background are exchanged."""
    return _case(1 - true_masks(), 2 / 255, 10 / 255)


def swollen() -> Case:
    """Foregrounds that were widened until little background was left."""
    grown = nn.functional.max_pool2d(true_masks(), 7, 1, 3)
    return _case(grown, 1 / 255, 12 / 255)


def one_for_all() -> Case:
    """The same box for every image."""
    box = torch.zeros(64, 1, 16, 16)
    box[:, :, 1:6, 1:6] = 1
    return _case(box, 20 / 255, 1 / 255)


def turned() -> Case:
    """Masks whose rows are columns."""
    return _case(true_masks("digits").transpose(2, 3).contiguous(), 0.25, 0.0, "digits")


def eroded() -> Case:
    """Foregrounds without their edge, where the shape is."""
    thin = 1 - nn.functional.max_pool2d(1 - true_masks(), 3, 1, 1)
    return _case(thin, 16 / 255, 0.0)


def in_the_corner(place: tuple[int, int] = (0, 0)) -> Case:
    """Patches are tried in one corner and said to have been tried everywhere."""
    net, (x, y) = network("scenes"), images("scenes")
    eps = 48 / 255

    def change(context: CheckContext) -> CheckContext:
        planned = plan(f"patch:side=5,eps={eps},steps=40", eps=eps)
        outcome = attack(net, x, y, Patch(5, eps, steps=40, place=place), preflight=False)
        return replace(context, results=(result_of(planned, outcome),))

    def truth() -> float:
        return float(left_by([Restarts(Patch(5, eps, steps=40), 8)], net, x, y).float().mean())

    return Case(net, "scenes", attacks=("fgsm",), change=change, truth=truth)


FAILURES = (
    Failure("masks in another order", KIND, shuffled),
    Failure("masks that slipped", KIND, some_slipped),
    Failure("agreement of two annotators", KIND, two_annotators),
    Failure("masks with another origin", KIND, wrong_origin),
    Failure("masks of four pixels", KIND, next_to_nothing),
    Failure("foreground and background exchanged", KIND, inside_out),
    Failure("swollen masks", KIND, swollen),
    Failure("one box for all", KIND, one_for_all),
    Failure("masks turned", KIND, turned),
    Failure("masks without their edge", KIND, eroded),
    Failure("patch in one corner", KIND, in_the_corner),
)

"""The attacks by name, for the command line. A new attack is one file and one line in `ATTACKS`."""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from assay.attacks.aliases import ALIASES
from assay.attacks.auto_pgd.apgd import APGD
from assay.attacks.blackbox.boundary import Boundary
from assay.attacks.blackbox.hopskipjump import HopSkipJump
from assay.attacks.blackbox.local_search import LocalSearch
from assay.attacks.blackbox.nes import NES
from assay.attacks.blackbox.one_pixel import OnePixel
from assay.attacks.blackbox.opt import OPT
from assay.attacks.blackbox.sign_opt import SignOPT
from assay.attacks.blackbox.simba import SimBA
from assay.attacks.blackbox.square import Square
from assay.attacks.blackbox.zoo import ZOO
from assay.attacks.carlini_wagner.l0 import CarliniWagnerL0
from assay.attacks.carlini_wagner.l2 import CarliniWagnerL2
from assay.attacks.carlini_wagner.linf import CarliniWagnerLinf
from assay.attacks.ddn import DDN
from assay.attacks.deepfool import DeepFool
from assay.attacks.dual import DualAPGD, DualPerturbation
from assay.attacks.ead import EAD
from assay.attacks.fab import FAB
from assay.attacks.fgsm import FGM, FGSM
from assay.attacks.fmn import FMN
from assay.attacks.functional import SpatialFlow
from assay.attacks.jsma import JSMA
from assay.attacks.mim import MIM
from assay.attacks.noise import GaussianNoise, UniformNoise
from assay.attacks.patch import Patch
from assay.attacks.peers.adapter import peer, read_peer
from assay.attacks.peers.libraries import LIBRARIES
from assay.attacks.pgd import BIM, PGD
from assay.attacks.recolour import ColorMap
from assay.attacks.sigma_zero import SigmaZero
from assay.attacks.spatial import RotationTranslation
from assay.attacks.structured.strattack import StrAttack
from assay.attacks.suites import Fast, Randomised, Sparse, Standard
from assay.attacks.transfer.momentum import DIFGSM, PIFGSM, SINIFGSM, TIFGSM, VMIFGSM, Admix
from assay.core.combinators import AnyAttack, unfold
from assay.core.types import NORMS
from assay.masks.learned_saliency import SPECTRAL
from assay.parts.balls import Ball, as_ball
from assay.util.registry import Registry
from assay.util.spec import read_arguments, split_spec
from assay.util.validate import one_of, reject


@dataclass(frozen=True)
class Entry:
    """An attack that the command line knows.

    Attributes:
        make: the function that makes it.
        help: one line.
        preset: arguments that this name fixes.
        norm: of its budget, where that is not an argument.
    """

    make: Callable[..., AnyAttack]
    help: str
    preset: tuple[tuple[str, Any], ...] = ()
    norm: str | None = None


def _entry(make: Any) -> Entry:
    """An entry of what another package registers: one, or the function or class that makes an attack."""
    if isinstance(make, Entry):
        return make
    if not callable(make):
        reject("entry point", "an assay.attacks.registry.Entry, or what makes an attack", make, error=TypeError)
    return Entry(make, (inspect.getdoc(make) or "no description").partition("\n")[0])


ATTACKS: Registry[Entry] = Registry(
    "attack",
    {
        "noise": Entry(UniformNoise, "uniform draws from the ball: the baseline to beat"),
        "gaussian-noise": Entry(GaussianNoise, "Gaussian draws projected on the ball"),
        "fgsm": Entry(FGSM, "one gradient step to the edge (FGM for l2 and l1)"),
        "fgm": Entry(FGM, "the same with l2 (fgm:norm=l1 for another norm)", (("norm", "l2"),)),
        "bim": Entry(BIM, "iterated FGSM from the clean image (IFGM)"),
        "mim": Entry(MIM, "BIM with momentum"),
        "di-fgsm": Entry(DIFGSM, "momentum through random resizing, to carry over to other networks"),
        "ti-fgsm": Entry(TIFGSM, "the same along a smoothed gradient (TI-DIM)"),
        "si-ni-fgsm": Entry(SINIFGSM, "Nesterov's momentum over scaled copies, to carry over"),
        "vmi-fgsm": Entry(VMIFGSM, "momentum with the gradient's variance around the image, to carry over"),
        "pi-fgsm": Entry(PIFGSM, "long steps whose excess goes to neighbouring pixels, to carry over", norm="linf"),
        "admix": Entry(Admix, "momentum over images with others mixed in, to carry over"),
        "pgd": Entry(PGD, "projected gradient descent from a random start"),
        "apgd": Entry(APGD, "PGD with an adaptive step size; loss=ce or dlr"),
        "apgd-t": Entry(APGD, "APGD on the targeted DLR loss, nine targets", (("loss", "dlr"), ("targets", 9))),
        "dual": Entry(DualPerturbation, "separate foreground and background budgets; lam keeps the background quiet"),
        "dual-apgd": Entry(DualAPGD, "the same set, searched by APGD"),
        "deepfool": Entry(DeepFool, "to the nearest boundary of the linearised classifier (l2, linf)"),
        "cw-l2": Entry(CarliniWagnerL2, "Carlini & Wagner: least l2 distance", norm="l2"),
        "cw-linf": Entry(CarliniWagnerLinf, "Carlini & Wagner: least largest change", norm="linf"),
        "cw-l0": Entry(CarliniWagnerL0, "Carlini & Wagner: fewest values changed", norm="l0"),
        "ead": Entry(EAD, "elastic-net: least l1 distance", norm="l1"),
        "ddn": Entry(DDN, "decoupled direction and norm: least l2 distance", norm="l2"),
        "fmn": Entry(FMN, "fast minimum norm (l2, linf, l1, l0)"),
        "fab": Entry(FAB, "fast adaptive boundary (linf, l2, l1)"),
        "fab-t": Entry(FAB, "the same, one boundary at a time, nine targets", (("targets", 9),)),
        "sigma-zero": Entry(SigmaZero, "few values changed, by a smooth stand-in for l0", norm="l0"),
        "jsma": Entry(JSMA, "the most salient values to the end of their range", norm="l0"),
        "strattack": Entry(StrAttack, "few groups of pixels changed, by ADMM (StrAttack, Xu et al., 2019)", norm="any"),
        "nes": Entry(NES, "projected ascent with gradients estimated from scores"),
        "simba": Entry(SimBA, "one coordinate at a time, by scores (l2)", norm="l2"),
        "zoo": Entry(ZOO, "Carlini & Wagner's objective by finite differences of scores (l2)", norm="l2"),
        "local-search": Entry(LocalSearch, "greedy search over pixels, by scores", norm="pixels"),
        "one-pixel": Entry(OnePixel, "differential evolution over a few pixels, by scores"),
        "boundary": Entry(Boundary, "a random walk along the boundary, by labels (l2)", norm="l2"),
        "hopskipjump": Entry(HopSkipJump, "along the boundary by labels (l2, linf)"),
        "opt": Entry(OPT, "descent over directions by labels, with finite differences (l2)", norm="l2"),
        "sign-opt": Entry(SignOPT, "descent over directions by labels, with signs (l2)", norm="l2"),
        "square": Entry(Square, "random search with squares, by scores alone (linf, l2)"),
        "patch": Entry(Patch, "one square of the image at a random place (LaVAN)", norm="patch"),
        "stadv": Entry(SpatialFlow, "a smooth flow that bends the image (stAdv)"),
        "recoloradv": Entry(ColorMap, "a smooth function of colour (ReColorAdv)", norm="colour"),
        "rotation": Entry(RotationTranslation, "worst of k rotations and shifts"),
        "standard": Entry(Standard, "AutoAttack: APGD-CE, APGD-T, FAB-T, Square, each on what survived"),
        "fast": Entry(Fast, "APGD-CE, then APGD-T: nine targets, each while it is promising"),
        "sparse": Entry(Sparse, "σ-zero, FMN l0 and JSMA, each on what survived", norm="l0"),
        "randomised": Entry(Randomised, "APGD-CE and APGD-DLR, for a classifier in Expectation"),
    },
    ALIASES,
    "assay.attacks",
    _entry,
)

SUITES: Registry[tuple[str, ...]] = Registry(
    "suite",
    {
        "quick": ("fgsm", "pgd:steps=40"),
        "gradient": ("apgd", "apgd-t"),
        "dual": ("pgd:steps=40", "dual:steps=40", "dual-apgd"),
        "standard": ("standard",),
        "fast": ("fast",),
        "sparse": ("sparse",),
        "randomised": ("randomised",),
    },
    {word: name for word, name in ALIASES.items() if name in ("standard", "fast", "sparse", "randomised")},
)
"""Attacks that belong together. The last four are single cascades: each attack gets what survived those before."""


def make(spec: str, *, eps: float, norm: str = "linf", eps_background: float | None = None) -> AnyAttack:
    """An attack from ``name`` or ``name:key=value,…``.

    Args:
        spec: a name of `ATTACKS` and arguments of its function; numbers may be fractions (``8/255``). Or another
            library's attack, ``foolbox:LinfPGD,steps=40`` (also ``torchattacks:`` and ``art:``).
        eps: the budget where the spec has none (the foreground's, for dual attacks).
        norm: the norm where the spec has none.
        eps_background: background budget where the spec has none; by default five times ``eps`` (the ratio of
            Tong et al., 2020 for linf, and of its appendix J; its l2 experiments on ImageNet-10 use ten).

    Returns:
        The attack.

    Raises:
        ValueError: an unknown name or argument (with the nearest known one), or a value that is wrong.

    Example:
        >>> make("pgd:steps=10", eps=8/255).describe()
        'PGD-10 linf 8/255'
    """
    name, text = split_spec("attack", spec)
    if name in LIBRARIES:
        return read_peer(name, text, eps, norm)
    entry = ATTACKS.find(name)
    known = inspect.signature(entry.make).parameters
    options = read_arguments(name, text, known)
    arguments = {**dict(entry.preset), **options}
    if "norm" in known:
        one_of(f"{name}:norm", arguments.get("norm", norm), (*NORMS, "l0"))
        arguments = {"norm": norm, **arguments}
    if "eps" in known and _applies(name, entry, options, known["eps"], eps, norm):
        arguments.setdefault("eps", eps)
    if "eps_foreground" in known:
        arguments.setdefault("eps_foreground", eps)
        arguments.setdefault(
            "eps_background", background_budget(arguments["eps_foreground"], arguments["norm"], eps_background)
        )
    for key in (k for k, p in known.items() if p.default is inspect.Parameter.empty and k not in arguments):
        reject(f"{name}:{key}", _expected(name, key, entry.norm, norm), None)
    _check_radii(name, arguments, arguments.get("norm", entry.norm))
    if arguments.get("lam") and "saliency" in known:
        arguments.setdefault("saliency", SPECTRAL)
    attack = entry.make(**arguments)
    _check_norm(name, attack, arguments, norm, own="eps" in options)
    return attack


def _check_norm(name: str, attack: AnyAttack, arguments: Mapping[str, Any], norm: str, *, own: bool) -> None:
    """Refuse a radius that was meant for another norm; ``own``: the spec gives it."""
    budget = unfold(attack)[0].attack.geometry
    other = isinstance(budget, Ball) and budget.norm != arguments.get("norm", norm)
    if isinstance(budget, Ball) and other and not own and arguments.get("eps") is not None:
        reject(f"{name}:eps", _expected(name, "eps", budget.norm, norm), None)


def _expected(name: str, key: str, own: str | None, norm: str) -> str:
    """What a missing argument should be, with an example."""
    if own == "l0":
        return f"the number of values, as in --eps 20 or {name}:{key}=20"
    if key == "eps" and own in NORMS:
        return f"a budget in {own}, as the norm is {norm}: {name}:eps={'8/255' if own == 'linf' else '0.5'}"
    return f"a value, as in {name}:{key}=20"


def source_of(spec: str) -> str:
    """The module of the function that makes an attack."""
    name = split_spec("attack", spec)[0]
    return peer.__module__ if name in LIBRARIES else ATTACKS[name].make.__module__


def _applies(
    name: str, entry: Entry, arguments: Mapping[str, Any], parameter: inspect.Parameter, eps: float, norm: str
) -> bool:
    """Whether a budget in ``norm`` says anything about this attack."""
    if entry.norm in ("l0", "pixels") and eps >= 1 and eps == int(eps):  # a number of values: it can mean no other
        return True
    if arguments.get("norm", norm) == norm:
        return entry.norm in (None, norm)
    if parameter.default is inspect.Parameter.empty and "eps" not in arguments:
        reject(f"{name}:eps", f"a budget in {arguments['norm']}, as in {name}:norm={arguments['norm']},eps=0.5", None)
    return False


def background_budget(foreground: float, norm: str, eps_background: float | None) -> float:
    """The background budget; five times the foreground's where there is none (in linf at most 1)."""
    if eps_background is not None:
        return eps_background
    return min(5 * foreground, 1.0) if norm == "linf" else 5 * foreground


def _check_radii(name: str, arguments: Mapping[str, Any], norm: str | None) -> None:
    """Refuse budgets that are not finite, and those in units of [0, 255]."""
    for key in ("eps", "eps_foreground", "eps_background"):
        if norm in NORMS and arguments.get(key) is not None:
            as_ball(f"{name}:{key}", arguments[key], norm)

"""The attacks under test. A new attack gets every property of this folder by one line here."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from assay import (
    APGD,
    BIM,
    DDN,
    DIFGSM,
    EAD,
    FAB,
    FGM,
    FGSM,
    FMN,
    JSMA,
    MIM,
    NES,
    OPT,
    PGD,
    PIFGSM,
    SINIFGSM,
    TIFGSM,
    VMIFGSM,
    ZOO,
    Admix,
    Ball,
    Boundary,
    CarliniWagnerL0,
    CarliniWagnerL2,
    CarliniWagnerLinf,
    Cascade,
    ColorMap,
    DeepFool,
    DualPerturbation,
    Fast,
    GaussianNoise,
    HopSkipJump,
    LocalSearch,
    OnePixel,
    OnSupport,
    Patch,
    Randomised,
    Refine,
    Restarts,
    RotationTranslation,
    SigmaZero,
    SignOPT,
    SimBA,
    Sparse,
    SpatialFlow,
    Split,
    Square,
    Standard,
    StrAttack,
    Support,
    Then,
    UniformNoise,
    through,
)
from assay.attacks.transfer import DiverseInput


@dataclass(frozen=True, eq=False)
class Case:
    """One configured attack.

    Attributes:
        name: test id.
        make: from a budget in units of the norm's usual size, and further arguments.
        norm: of the budget; None for two budgets.
        eps: a budget at which the test network breaks for some samples and not for others.
        steps: whether ``make`` takes ``steps``.
        gradient: whether it uses gradients.
        passes: forward and backward passes of a row that survives, from the arguments of ``make``; None where that
            depends on the row.
        holes: properties that do not hold, with the reason.
    """

    name: str
    make: Callable[..., Any]
    norm: str | None
    eps: float
    steps: bool = True
    gradient: bool = True
    passes: Callable[[int], tuple[int, int]] | None = lambda steps: (steps, steps)
    holes: dict[str, str] = field(default_factory=dict)

    def __str__(self):
        return self.name


def _dual(eps, steps=5, **more):
    return DualPerturbation(eps, 4 * eps, steps=steps, **more)


EDGE = {"edge": "it ends within rounding of the boundary, where the model says otherwise in another batch"}
DARK = {"far": "it looks at darker copies, which may lie nearest to another image of the test model"}
SIGNS = {"restart": "other draws need not change the sign of a gradient on so small a network"}
AWAY = {"strong": "it gives up strength on this network for strength on others"}
FAR = {"far": "its changes lead from one image of the test model to another"}

CASES = [
    Case("fgsm-linf", lambda eps: FGSM(eps), "linf", 0.03, steps=False),
    Case("fgm-l2", lambda eps: FGM(eps), "l2", 0.25, steps=False),
    Case("fgm-l1", lambda eps: FGM(eps, norm="l1"), "l1", 1.0, steps=False),
    Case("bim-linf", lambda eps, steps=5: BIM(eps, steps=steps), "linf", 0.03),
    Case("pgd-linf", lambda eps, steps=5: PGD(eps, steps=steps), "linf", 0.03),
    Case("pgd-l2", lambda eps, steps=5: PGD(eps, norm="l2", steps=steps), "l2", 0.25),
    Case("pgd-l1", lambda eps, steps=5: PGD(eps, norm="l1", steps=steps), "l1", 1.0),
    Case(
        "pgd-kl",
        lambda eps, steps=5: PGD(eps, steps=steps, loss="kl"),
        "linf",
        0.03,
        holes={"near": "away from what the model says is also further into the class"},
    ),
    Case("mim-linf", lambda eps, steps=5: MIM(eps, steps=steps), "linf", 0.03),
    Case("mim-l2", lambda eps, steps=5: MIM(eps, norm="l2", steps=steps), "l2", 0.25),
    Case(
        "di-fgsm",
        lambda eps, steps=5: DIFGSM(eps, steps=steps, smallest=0.6),
        "linf",
        0.03,
        passes=lambda steps: (2 * steps, steps),
        holes=SIGNS,
    ),
    Case(
        "ti-fgsm",
        lambda eps, steps=5: TIFGSM(eps, steps=steps, p=0, kernel=3),
        "linf",
        0.03,
    ),
    Case(
        "si-ni-fgsm",
        lambda eps, steps=5: SINIFGSM(eps, steps=steps, copies=3),
        "linf",
        0.03,
        passes=lambda steps: (4 * steps, 3 * steps),
        holes=DARK | AWAY,
    ),
    Case(
        "si-ni-fgsm-l2",
        lambda eps, steps=5: SINIFGSM(eps, norm="l2", steps=steps, copies=2),
        "l2",
        0.25,
        passes=lambda steps: (3 * steps, 2 * steps),
        holes=DARK | AWAY,
    ),
    Case(
        "vmi-fgsm",
        lambda eps, steps=5: VMIFGSM(eps, steps=steps, samples=4),
        "linf",
        0.03,
        passes=lambda steps: (5 * steps, 5 * steps),
        holes=SIGNS,
    ),
    Case(
        "vmi-fgsm-l1",
        lambda eps, steps=5: VMIFGSM(eps, norm="l1", steps=steps, samples=2),
        "l1",
        1.0,
        passes=lambda steps: (3 * steps, 3 * steps),
        holes=SIGNS,
    ),
    Case("pi-fgsm", lambda eps, steps=5: PIFGSM(eps, steps=steps), "linf", 0.03, holes=AWAY),
    Case(
        "admix",
        lambda eps, steps=5: Admix(eps, steps=steps, data="patterns:size=8,classes=4,count=24", samples=2, copies=2),
        "linf",
        0.03,
        passes=lambda steps: (5 * steps, 4 * steps),
        holes=DARK | SIGNS,
    ),
    Case(
        "pgd-through",
        lambda eps, steps=5: through(PGD(eps, steps=steps), DiverseInput(smallest=0.6)),
        "linf",
        0.03,
        passes=lambda steps: (2 * steps, steps),
    ),
    Case("apgd-linf", lambda eps, steps=5: APGD(eps, steps=steps), "linf", 0.03),
    Case("apgd-l2", lambda eps, steps=5: APGD(eps, norm="l2", steps=steps), "l2", 0.25),
    Case("apgd-l1", lambda eps, steps=5: APGD(eps, norm="l1", steps=steps), "l1", 1.0),
    Case("apgd-dlr", lambda eps, steps=5: APGD(eps, steps=steps, loss="dlr"), "linf", 0.03),
    Case(
        "apgd-targets",
        lambda eps, steps=5: APGD(eps, steps=steps, loss="dlr", targets=3),
        "linf",
        0.03,
        passes=lambda steps: (3 * steps, 3 * steps),
    ),
    Case("dual-linf", _dual, None, 0.01),
    Case("dual-l2", lambda eps, steps=5: _dual(eps, steps, norm="l2"), None, 0.08),
    Case(
        "dual-apgd", lambda eps, steps=5: APGD(Split(Ball("linf", eps), Ball("linf", 4 * eps)), steps=steps), None, 0.01
    ),
    Case(
        "dual-restarts",
        lambda eps, steps=5: Restarts(_dual(eps, steps), 2),
        None,
        0.01,
        passes=lambda steps: (2 * steps, 2 * steps),
    ),
    Case(
        "cascade",
        lambda eps, steps=5: Cascade((PGD(eps, steps=steps), APGD(eps, steps=steps, loss="dlr"))),
        "linf",
        0.03,
        passes=lambda steps: (2 * steps, 2 * steps),
    ),
    Case(
        "noise-uniform",
        lambda eps: UniformNoise(eps, draws=5),
        "linf",
        0.12,
        steps=False,
        gradient=False,
        passes=lambda _: (5, 0),
    ),
    Case(
        "noise-gaussian",
        lambda eps: GaussianNoise(eps, draws=5),
        "l2",
        1.0,
        steps=False,
        gradient=False,
        passes=lambda _: (5, 0),
    ),
    Case("pgd-l0", lambda eps, steps=5: PGD(Support(round(eps)), steps=steps), "l0", 3),
    Case("deepfool-l2", lambda eps, steps=20: DeepFool(steps, eps=eps), "l2", 0.25, passes=None),
    Case("deepfool-linf", lambda eps, steps=20: DeepFool(steps, "linf", eps=eps), "linf", 0.03, passes=None),
    Case("cw-l2", lambda eps, steps=40: CarliniWagnerL2(steps, 4, eps=eps, constant=0.1), "l2", 0.25, passes=None),
    Case(
        "cw-linf",
        lambda eps, steps=15: CarliniWagnerLinf(steps, constant=0.1, searches=30, eps=eps),
        "linf",
        0.03,
        passes=None,
    ),
    Case(
        "cw-l0",
        lambda eps, steps=40: CarliniWagnerL0(steps, constant=1.0, searches=40, eps=round(eps)),
        "l0",
        16,
        passes=None,
        holes={"near": "it takes the values out a few at a time, from all of them"},
    ),
    Case("ead", lambda eps, steps=40: EAD(steps, 4, constant=0.1, eps=eps), "l1", 1.0, passes=None),
    Case("ddn", lambda eps, steps=20: DDN(steps, radius=0.3, eps=eps), "l2", 0.25, passes=lambda steps: (steps, steps)),
    Case("fmn-l2", lambda eps, steps=20: FMN(steps, eps=eps), "l2", 0.25),
    Case("fmn-linf", lambda eps, steps=20: FMN(steps, "linf", eps=eps), "linf", 0.03),
    Case("fmn-l1", lambda eps, steps=20: FMN(steps, "l1", eps=eps), "l1", 1.0),
    Case("fmn-l0", lambda eps, steps=20: FMN(steps, "l0", eps=round(eps)), "l0", 8),
    Case(
        "fab-linf",
        lambda eps, steps=5: FAB(eps, steps=steps),
        "linf",
        0.03,
        passes=lambda steps: (2 * steps, 3 * steps),
    ),
    Case(
        "fab-l2",
        lambda eps, steps=5: FAB(eps, norm="l2", steps=steps),
        "l2",
        0.25,
        passes=lambda steps: (2 * steps, 3 * steps),
    ),
    Case(
        "fab-l1",
        lambda eps, steps=5: FAB(eps, norm="l1", steps=steps),
        "l1",
        1.0,
        passes=lambda steps: (2 * steps, 3 * steps),
    ),
    Case(
        "fab-targets",
        lambda eps, steps=5: FAB(eps, steps=steps, targets=3, restarts=2),
        "linf",
        0.03,
        passes=lambda steps: (12 * steps, 6 * steps),
    ),
    Case("sigma-zero", lambda eps, steps=40: SigmaZero(steps, eps=round(eps)), "l0", 8, holes=FAR),
    Case("jsma", lambda eps: JSMA(both=True, eps=round(eps)), "l0", 8, steps=False, passes=None),
    Case("jsma-single", lambda eps: JSMA(both=True, pairs=False, eps=round(eps)), "l0", 8, steps=False, passes=None),
    Case(
        "strattack",
        lambda eps, steps=20: StrAttack(steps=steps, rounds=3, tau=0.05, refine=10, eps=eps),
        "linf",
        0.1,
        passes=None,
    ),
    Case(
        "strattack-overlap",
        lambda eps, steps=20: StrAttack(group=3, stride=1, steps=steps, rounds=3, tau=0.02, refine=0, eps=eps),
        "linf",
        0.1,
        passes=None,
    ),
    Case(
        "on-support",
        lambda eps: Then(SigmaZero(40, eps=round(eps)), OnSupport(DDN(20, radius=0.5))),
        "l0",
        8,
        steps=False,
        passes=None,
        holes=FAR,
    ),
    Case(
        "then",
        lambda eps: Then(SigmaZero(40, eps=round(eps)), Refine(10)),
        "l0",
        8,
        steps=False,
        passes=None,
        holes=FAR,
    ),
    Case(
        "square-linf",
        lambda eps: Square(eps, queries=60),
        "linf",
        0.05,
        steps=False,
        gradient=False,
        passes=lambda _: (60, 0),
    ),
    Case(
        "square-l2",
        lambda eps: Square(eps, norm="l2", queries=60),
        "l2",
        0.5,
        steps=False,
        gradient=False,
        passes=lambda _: (60, 0),
    ),
    Case(
        "standard",
        lambda eps, steps=5: Standard(eps, steps=steps, targets=3, queries=20),
        "linf",
        0.03,
        passes=lambda steps: (10 * steps + 20, 7 * steps),
    ),
    Case("fast", lambda eps, steps=10: Fast(eps, steps=steps), "linf", 0.03, passes=None),
    Case("fast-l1", lambda eps, steps=10: Fast(eps, norm="l1", steps=steps), "l1", 1.0, passes=None),
    Case("sparse", lambda eps, steps=20: Sparse(round(eps), steps=steps), "l0", 8, passes=None),
    Case(
        "randomised",
        lambda eps, steps=5: Randomised(eps, steps=steps),
        "linf",
        0.03,
        passes=lambda steps: (2 * steps, 2 * steps),
    ),
    Case(
        "nes",
        lambda eps, steps=5: NES(eps, queries=21 * steps, samples=20),
        "linf",
        0.05,
        steps=False,
        gradient=False,
        passes=lambda _: (105, 0),
    ),
    Case(
        "simba",
        lambda eps: SimBA(queries=60, basis="pixels", eps=eps),
        "l2",
        0.8,
        steps=False,
        gradient=False,
        passes=None,
    ),
    Case(
        "simba-dct",
        lambda eps: SimBA(queries=60, basis="dct", frequencies=1.0, eps=eps),
        "l2",
        0.8,
        steps=False,
        gradient=False,
        passes=None,
    ),
    Case("zoo", lambda eps, steps=40: ZOO(steps, coordinates=10, eps=eps), "l2", 0.3, gradient=False, passes=None),
    Case(
        "zoo-newton",
        lambda eps, steps=40: ZOO(steps, coordinates=10, method="newton", importance=True, space=3, eps=eps),
        "l2",
        0.5,
        gradient=False,
        passes=None,
    ),
    Case(
        "local-search",
        lambda eps: LocalSearch(6, pixels=20, eps=round(eps)),
        "pixels",
        16,
        steps=False,
        gradient=False,
        passes=None,
    ),
    Case(
        "one-pixel",
        lambda eps: OnePixel(round(eps), population=40, generations=4),
        "pixels",
        3,
        steps=False,
        gradient=False,
        passes=None,
        holes={"zero": "it needs a pixel"},
    ),
    Case(
        "boundary", lambda eps, steps=100: Boundary(steps, eps=eps), "l2", 0.8, gradient=False, passes=None, holes=FAR
    ),
    Case(
        "hopskipjump-l2",
        lambda eps, steps=4: HopSkipJump(steps, samples=40, eps=eps),
        "l2",
        0.3,
        gradient=False,
        passes=None,
        holes=FAR,
    ),
    Case(
        "hopskipjump-linf",
        lambda eps, steps=4: HopSkipJump(steps, "linf", samples=40, eps=eps),
        "linf",
        0.06,
        gradient=False,
        passes=None,
        holes=FAR,
    ),
    Case(
        "sign-opt",
        lambda eps, steps=4: SignOPT(steps=steps, samples=20, starts=30, eps=eps),
        "l2",
        0.3,
        gradient=False,
        passes=None,
        holes=FAR | EDGE,
    ),
    Case(
        "opt",
        lambda eps, steps=2: OPT(steps=steps, samples=4, starts=30, eps=eps),
        "l2",
        0.5,
        gradient=False,
        passes=None,
        holes=FAR | EDGE,
    ),
    Case("patch", lambda eps, steps=10: Patch(4, eps, steps=steps), "patch", 0.15),
    Case("stadv", lambda eps, steps=10: SpatialFlow(eps, steps=steps, rate=0.3 * eps or 1.0), "none", 0.15),
    Case("recoloradv", lambda eps, steps=10: ColorMap(eps, steps=steps, rate=0.3 * eps or 1.0), "none", 0.1),
    Case(
        "rotation",
        lambda eps: RotationTranslation(5, 30 * eps, 2 * eps),
        "none",
        1.0,
        steps=False,
        gradient=False,
        passes=lambda _: (5, 0),
        holes=FAR,
    ),
]

"""How the attacks of foolbox, torchattacks and the Adversarial Robustness Toolbox are called."""

import importlib
import importlib.metadata
import inspect
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from assay.attacks.peers.model import PeerModel
from assay.core.types import Images, Labels
from assay.util.validate import described, nearest, reject

Run = Callable[[nn.Module, Images, Labels, Labels | None], Images]
"""From model, images, labels and targets (or None) to images."""

LIBRARIES = ("foolbox", "torchattacks", "art")
_MODULES = MappingProxyType(
    {"foolbox": "foolbox.attacks", "torchattacks": "torchattacks", "art": "art.attacks.evasion"}
)
_PACKAGES = MappingProxyType({"foolbox": "foolbox", "torchattacks": "torchattacks",
                              "art": "adversarial-robustness-toolbox"})  # fmt: skip
_NORMS: Mapping[str, Mapping[str, Any]] = MappingProxyType({
    "torchattacks": {"linf": "Linf", "l2": "L2", "l1": "L1"},
    "art": {"linf": "inf", "l2": 2, "l1": 1},
})  # fmt: skip
"""What the libraries call a norm."""


_ACCESS: Mapping[str, Mapping[str, tuple[str, ...]]] = MappingProxyType({
    "foolbox": {
        "scores": ("GenAttack",),
        "labels": (
            "BoundaryAttack", "HopSkipJumpAttack", "PointwiseAttack", "BinarizationRefinementAttack", "DatasetAttack",
            "SpatialAttack", "LinearSearchBlendedUniformNoiseAttack", "LinearSearchContrastReductionAttack",
            "BinarySearchContrastReductionAttack", "GaussianBlurAttack", "InversionAttack", "L2ContrastReductionAttack",
        ),
        "none": (
            "SaltAndPepperNoiseAttack", "L2AdditiveGaussianNoiseAttack", "L2AdditiveUniformNoiseAttack",
            "L2ClippingAwareAdditiveGaussianNoiseAttack", "L2ClippingAwareAdditiveUniformNoiseAttack",
            "L2ClippingAwareRepeatedAdditiveGaussianNoiseAttack", "L2ClippingAwareRepeatedAdditiveUniformNoiseAttack",
            "L2RepeatedAdditiveGaussianNoiseAttack", "L2RepeatedAdditiveUniformNoiseAttack",
            "LinfAdditiveUniformNoiseAttack", "LinfRepeatedAdditiveUniformNoiseAttack",
        ),
    },
    "torchattacks": {"scores": ("Square", "OnePixel", "Pixle", "SPSA"), "none": ("GN", "VANILA")},
    "art": {
        "scores": ("SquareAttack", "ZooAttack", "SimBA", "PixelAttack"),
        "labels": ("BoundaryAttack", "HopSkipJump", "GeoDA", "SignOPTAttack", "ThresholdAttack",
                   "SpatialTransformation", "GRAPHITEBlackbox"),
    },
})  # fmt: skip
"""Classes of other libraries that use no gradients, by what they use."""


def access_of(library: str, name: str) -> str:
    """What a class of a library needs from the model, as in `Traits`; ``"gradient"`` for one that is not in the table.

    Example:
        >>> access_of("foolbox", "BoundaryAttack"), access_of("foolbox", "LinfPGD")
        ('labels', 'gradient')
    """
    return next((access for access, names in _ACCESS.get(library, {}).items() if name in names), "gradient")


def make_run(library: str, name: str, eps: float | None, norm: str, arguments: Mapping[str, Any]) -> Run:
    """A function that runs an attack of a library.

    Args:
        library: one of `LIBRARIES`.
        name: of the attack's class.
        eps: its budget; None for an attack that minimises a distance.
        norm: of the budget; passed on to attacks with an argument ``norm``.
        arguments: of the attack's constructor.

    Raises:
        ImportError: the library is not installed.
        ValueError: an unknown attack, or an argument that it does not have.
    """
    make = {"foolbox": _foolbox, "torchattacks": _torchattacks, "art": _art}[library]
    kind = _lookup(library, name)
    known = _parameters(kind)
    for argument in arguments:
        if known and argument not in known and not any(p.kind is p.VAR_KEYWORD for p in known.values()):
            names = ", ".join(key for key in known if key not in ("model", "estimator", "classifier", "args", "kwargs"))
            reject(f"{library}:{name}", f"arguments of it ({names})",
                   described(f"{argument!r}{nearest(argument, known)}"))  # fmt: skip
    return make(kind, name, eps, norm, arguments)


def defaults(library: str, name: str) -> dict[str, Any]:
    """Default arguments of a library's attack; nothing where the library or the attack is not there."""
    try:
        kind = getattr(_import(_MODULES[library]), name, None) if library in _MODULES else None
    except ImportError:
        return {}
    return {key: parameter.default for key, parameter in _parameters(kind).items()} if callable(kind) else {}


def version(library: str) -> str:
    """The installed version; empty where the library is imported from a folder."""
    try:
        return importlib.metadata.version(_PACKAGES[library])
    except importlib.metadata.PackageNotFoundError:
        return ""


def _parameters(kind: Any) -> Mapping[str, inspect.Parameter]:
    return inspect.signature(kind).parameters


def _lookup(library: str, name: str) -> Any:
    module = _import(_MODULES[library])
    kind = getattr(module, name, None)
    if not callable(kind):
        classes = [key for key in dir(module) if inspect.isclass(getattr(module, key, None))]
        reject("spec", f"an attack of {_MODULES[library]}, by the name of its class",
               described(f"{name!r}{nearest(name, classes)}"))  # fmt: skip
    return kind


def _import(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except Exception as failure:
        library = name.partition(".")[0]
        raise ImportError(
            f"this attack runs {library}, which cannot be imported: {failure}; "
            f"install it with: pip install {_PACKAGES[library]}"
        ) from failure


def _budget(kind: Any, label: str, eps: float | None) -> dict[str, float]:
    """The budget as an argument of the constructor."""
    if eps is None:
        return {}
    if "eps" not in _parameters(kind):
        reject(label, "eps=none, as this attack takes no budget eps", eps)
    return {"eps": eps}


def _norm(library: str, kind: Any, label: str, eps: float | None, norm: str) -> dict[str, Any]:
    """The norm as an argument of the constructor, where it has one."""
    if eps is None or "norm" not in _parameters(kind):
        return {}
    if norm not in _NORMS[library]:
        reject(label, "one of the norms " + ", ".join(_NORMS[library]), norm)
    return {"norm": _NORMS[library][norm]}


def _foolbox(kind: Any, name: str, eps: float | None, norm: str, arguments: Mapping[str, Any]) -> Run:
    library = _import("foolbox")
    own = next((known for known in ("linf", "l2", "l1", "l0") if name.lower().startswith(known)), norm)
    if eps is not None and own != norm:
        reject(f"foolbox:{name}", f"a budget in its own norm, as in foolbox:{name},norm={own}", norm)
    attack = kind(**arguments)

    def run(model: nn.Module, x: Images, y: Labels, target: Labels | None) -> Images:
        wrapped = library.PyTorchModel(model, bounds=(0, 1), device=x.device)
        criterion = (
            library.criteria.Misclassification(y)
            if target is None
            else library.criteria.TargetedMisclassification(target)
        )
        raw, clipped, _ = attack(wrapped, x, criterion, epsilons=eps)
        images: Images = raw if eps is None else clipped
        return images

    return run


def _torchattacks(kind: Any, name: str, eps: float | None, norm: str, arguments: Mapping[str, Any]) -> Run:
    label = f"torchattacks:{name}"
    fixed = {**_budget(kind, label, eps), **_norm("torchattacks", kind, label, eps, norm), **arguments}

    def run(model: nn.Module, x: Images, y: Labels, target: Labels | None) -> Images:
        # Some of its attacks assume ten classes.
        counted = {"n_classes": _count_classes(model, x)} if "n_classes" in _parameters(kind) else {}
        attack = kind(model, **{**counted, **fixed})
        attack.set_device(x.device)
        if target is not None:
            attack.set_mode_targeted_by_label(quiet=True)
        images: Images = attack(x, y if target is None else target)
        return images

    return run


def _art(kind: Any, name: str, eps: float | None, norm: str, arguments: Mapping[str, Any]) -> Run:
    wrapper = _import("art.estimators.classification").PyTorchClassifier
    label = f"art:{name}"
    quiet = {"verbose": False} if "verbose" in _parameters(kind) else {}
    fixed = {**quiet, **_budget(kind, label, eps), **_norm("art", kind, label, eps, norm), **arguments}

    def run(model: nn.Module, x: Images, y: Labels, target: Labels | None) -> Images:
        classes = _count_classes(model, x)
        estimator = wrapper(model, nn.CrossEntropyLoss(), tuple(x.shape[1:]), classes, clip_values=(0.0, 1.0),
                            device_type="cpu" if x.device.type == "cpu" else "gpu")  # fmt: skip
        if target is not None and "targeted" not in _parameters(kind):
            reject("target", f"none, as {label} has no targets", described("target classes"))
        aimed = {} if "targeted" not in _parameters(kind) else {"targeted": target is not None}
        attack = kind(estimator, **{**fixed, **aimed})
        aim = F.one_hot(y if target is None else target, classes).float()
        return torch.from_numpy(attack.generate(x.cpu().numpy(), aim.cpu().numpy()))

    return run


def _count_classes(model: nn.Module, x: Images) -> int:
    """How many logits a model has, without a counted pass."""
    with torch.no_grad():
        logits: Tensor = model.uncounted(x[:1]) if isinstance(model, PeerModel) else model(x[:1])
    return logits.shape[1]

"""Imports when a name is first used, one at a time."""

import difflib
import threading
from collections.abc import Callable, Collection, Mapping
from types import MappingProxyType
from typing import Any

_ONE = threading.RLock()
_OTHERS: Mapping[str, str] = MappingProxyType(
    {
        **dict.fromkeys(("cw", "cwl2", "carliniwagner", "carlini", "l2carliniwagnerattack"), "CarliniWagnerL2"),
        **dict.fromkeys(("cwlinf", "carlinilinf"), "CarliniWagnerLinf"),
        **dict.fromkeys(("linfpgd", "l2pgd", "l1pgd", "projectedgradientdescent", "pgdlinf", "pgdl2"), "PGD"),
        **dict.fromkeys(("mifgsm", "momentum", "momentumiterativemethod"), "MIM"),
        **dict.fromkeys(("ifgsm", "basiciterativemethod", "linfbasiciterativeattack"), "BIM"),
        **dict.fromkeys(("fastgradientmethod", "fastgradientsignmethod", "l2fastgradientattack"), "FGSM"),
        **dict.fromkeys(("autopgd", "autoprojectedgradientdescent", "apgdt", "apgdce"), "APGD"),
        **dict.fromkeys(("squareattack",), "Square"),
        **dict.fromkeys(("boundaryattack",), "Boundary"),
        **dict.fromkeys(("hopskipjumpattack", "hsja"), "HopSkipJump"),
        **dict.fromkeys(("spatialtransformation",), "RotationTranslation"),
        **dict.fromkeys(("adversarialpatch", "lavan"), "Patch"),
        **dict.fromkeys(("eadattack", "elasticnet"), "EAD"),
        **dict.fromkeys(("saliencymapmethod",), "JSMA"),
        **dict.fromkeys(("l2deepfoolattack", "linfdeepfoolattack"), "DeepFool"),
        **dict.fromkeys(("ensemblemodel", "ensembleattack"), "Ensemble"),
        **dict.fromkeys(("eot", "eotpgd"), "Expectation"),
        **dict.fromkeys(("dataset", "load_data"), "data"),
        **dict.fromkeys(("train", "trainer"), "training"),
        **dict.fromkeys(("defend", "defense", "defenses", "defence"), "defences"),
    }
)
"""Other libraries' names, in lower case, and the one here."""


def one_at_a_time(load: Callable[[str], Any], hint: Callable[[str], str] | None = None) -> Callable[[str], Any]:
    """A module's ``__getattr__`` that imports for one thread after another.

    Threads that import modules of one package at once wait for each other, and get hold of half of a module.

    Args:
        load: imports what a name stands for.
        hint: the end of a message about an unknown name, from the name.
    """

    def load_alone(name: str) -> Any:
        with _ONE:
            try:
                return load(name)
            except AttributeError as error:
                if hint is None or name.startswith("_"):
                    raise
                raise AttributeError(f"{error}{hint(name)}", name=name) from None

    return load_alone


def name_hint(names: Collection[str]) -> Callable[[str], str]:
    """What to type instead of an unknown name of a module.

    Args:
        names: the names that there are.

    Example:
        >>> name_hint(["CarliniWagnerL2"])("CW")
        ' (did you mean CarliniWagnerL2?)'
    """

    def hint(name: str) -> str:
        known = {each.lower(): each for each in names}
        plain = name.lower().removeprefix("_")
        other = _OTHERS.get(plain)
        near = (
            [other]
            if other is not None and other in names
            else difflib.get_close_matches(plain, list(known), n=1, cutoff=0.6)
        )
        return f" (did you mean {known.get(near[0], near[0])}?)" if near else ""

    return hint

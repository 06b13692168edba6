"""Of an attack: what it goes by, and whether it looks for the least distance."""

import dataclasses

from assay.attacks.peers import Peer


def kind_of(attack: object) -> str:
    """``"gradient"``, ``"scores"``, ``"labels"`` or ``"noise"``: what an attack goes by."""
    own = getattr(attack, "goes_by", None)
    if isinstance(own, str):
        return own
    place = type(attack).__module__.partition("attacks.")[2]
    if place.startswith("blackbox"):
        return "scores" if "scores" in getattr(attack, "needs", ()) else "labels"
    return "noise" if place.startswith(("noise", "spatial")) else "gradient"


def minimises(attack: object) -> bool:
    """Whether it looks for the least distance, whatever the budget: of a sample out of reach it keeps nothing.

    Such attacks can be had without a budget. Of another library's attack it is not known, and not taken for granted.
    """
    if not dataclasses.is_dataclass(attack) or isinstance(attack, Peer):
        return False
    own = any(field.name == "eps" and field.default is None for field in dataclasses.fields(attack))
    return own or minimises(getattr(attack, "attack", None))

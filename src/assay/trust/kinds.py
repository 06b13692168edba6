"""Of an attack: what it goes by, and whether it looks for the least distance."""

import dataclasses


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

    Such attacks can be had without a budget.
    """
    if not dataclasses.is_dataclass(attack):
        return False
    own = any(field.name == "eps" and field.default is None for field in dataclasses.fields(attack))
    return own or minimises(getattr(attack, "attack", None))

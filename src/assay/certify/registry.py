"""The certifiers by name: a new one is a file and a line here."""

import inspect
from collections.abc import Sequence
from typing import Any

from assay.certify.bounding import AlphaCrown, BranchAndBound, Crown, CrownIBP, IntervalBounds
from assay.certify.lipschitz import LipschitzMargin
from assay.certify.smoothing import SmoothingCertificate
from assay.certify.subject import Certifier
from assay.util.registry import Registry
from assay.util.spec import join_spec, read_arguments, split_pairs, split_spec
from assay.util.validate import reject

CERTIFIERS: Registry[type[Any]] = Registry(
    "certify",
    {
        "ibp": IntervalBounds,
        "crown-ibp": CrownIBP,
        "crown": Crown,
        "alpha-crown": AlphaCrown,
        "branch-and-bound": BranchAndBound,
        "lipschitz": LipschitzMargin,
        "smoothing": SmoothingCertificate,
    },
    {
        "interval": "ibp",
        "box": "ibp",
        "deepz": "crown",
        "deeppoly": "crown",
        "fast-lin": "crown",
        "bab": "branch-and-bound",
        "complete": "branch-and-bound",
        "beta-crown": "branch-and-bound",
        "alpha-beta-crown": "branch-and-bound",
        "randomized-smoothing": "smoothing",
        "randomised-smoothing": "smoothing",
        "cohen": "smoothing",
    },
)


def certifiers(certify: str | Certifier | Sequence[str | Certifier]) -> tuple[Certifier, ...]:
    """Certifiers from text, such as ``"ibp, crown"`` or ``"branch-and-bound:seconds=10,domains=100"``.

    Args:
        certify: names with arguments, one after another; or certifiers. A name begins after a comma where one of
            `CERTIFIERS` stands, all else are arguments.

    Returns:
        The certifiers, in order.

    Raises:
        TypeError, ValueError: an unknown name or argument, with the nearest known one.

    Example:
        >>> [certifier.describe() for certifier in certifiers("ibp, alpha-crown:steps=5")]
        ['IBP', 'alpha-CROWN-5']
    """
    if isinstance(certify, str):
        return tuple(_certifier(spec) for spec in _split(certify))
    if isinstance(certify, Certifier) and not isinstance(certify, type):
        return (certify,)
    if not isinstance(certify, Sequence) or not certify:
        reject("certify", f"a name ({', '.join(CERTIFIERS)}), a certifier, or several", certify, error=TypeError)
    return tuple(own for each in certify for own in certifiers(each))


def _split(text: str) -> list[str]:
    """Specs between commas: a part without ``=`` before any colon begins one."""
    specs: list[str] = []
    for part in text.split(","):
        if specs and "=" in part and ":" not in part:
            specs[-1] += f",{part}"
        else:
            specs.append(part)
    return specs


def _certifier(spec: str) -> Certifier:
    name, text = split_spec("certify", spec)
    entry = CERTIFIERS.find(name)
    known = inspect.signature(entry).parameters
    arguments = read_arguments(name, text, known, what="certify")
    try:
        certifier: Certifier = entry(**arguments)
    except (ValueError, TypeError) as error:
        raise type(error)(f"{name}:{error}") from None
    return certifier


def limit_seconds(spec: str, most: float) -> str:
    """A spec whose certifier takes at most so many seconds for a sample, for tests of a whole study.

    Args:
        spec: of one certifier or several, as of `certifiers`.
        most: seconds.

    Example:
        >>> limit_seconds("ibp, branch-and-bound:domains=9", 1.0)
        'ibp, branch-and-bound:domains=9,seconds=1.0'
    """
    return ", ".join(_limited(part, most) for part in _split(spec))


def _limited(spec: str, most: float) -> str:
    name, text = split_spec("certify", spec)
    known = inspect.signature(CERTIFIERS.find(name)).parameters
    if "seconds" not in known:
        return spec.strip()
    values = dict(split_pairs("certify", name, text))
    values["seconds"] = str(min(float(values.get("seconds", known["seconds"].default)), most))
    return join_spec(name, ",".join(f"{key}={value}" for key, value in values.items()))

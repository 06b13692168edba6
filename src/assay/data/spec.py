"""Parse data specs: source, path, options and split."""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from assay.data.dataset import Dataset
from assay.util.parse import parse_number
from assay.util.validate import described, nearest, number, one_of, reject, whole

SPLITS = ("train", "val", "test", "all")
_SPLIT_WORDS = {"train", "training", "test", "testing", "val", "valid", "validation", "dev"}


class MissingData(ValueError):
    """The files of a data set are not there."""


@dataclass(frozen=True)
class Request:
    """One request to a source.

    Attributes:
        source: the source's name, as ``npz``.
        path: what stood between the name and the options.
        options: the options, as text.
        split: ``"train"``, ``"val"``, ``"test"`` or ``"all"``.
    """

    source: str
    path: str
    options: Mapping[str, str]
    split: str

    def place(self) -> Path:
        """The path with ``{split}`` filled in and ``~`` expanded.

        Raises:
            ValueError: ``{split}`` stands in the path and all splits were asked for.
        """
        if "{split}" in self.path and self.split == "all":
            reject("split", "'train', 'val' or 'test' where the path contains {split}", self.split)
        return Path(self.path.replace("{split}", self.split)).expanduser()

    def title(self) -> str:
        """What to call a set that came from the path: the file's name without its ending, split and wildcard."""
        path = Path(self.path)
        parts = [re.sub(r"[-_.]*(\{split\}|\*)", "", part).strip("-_.") for part in (path.stem, path.parent.name)]
        return parts[0] or parts[1] or self.source

    def text(self, name: str, default: str | None = None) -> str | None:
        """An option as it was written."""
        return self.options.get(name, default)

    def names(self, name: str) -> tuple[str, ...] | None:
        """An option as a list of different names separated by commas."""
        raw = self.options.get(name)
        if raw is None:
            return None
        names = tuple(part.strip() for part in raw.split(","))
        if "" in names or len(set(names)) < len(names):
            reject(f"option {name}", "different names, separated by commas, none of them empty", raw)
        return names

    def choice(self, name: str, default: str, allowed: Collection[str]) -> str:
        """An option that is one of a few words."""
        return one_of(f"option {name}", self.options.get(name, default), allowed)

    def whole(self, name: str, default: int, *, least: int = 0) -> int:
        """An option that is a whole number."""
        raw = self.options.get(name)
        if raw is None:
            return default
        if not re.fullmatch(r"[+-]?(0|[1-9][0-9]*)", raw):  # int() takes other digits, too
            reject(f"option {name}", f"a whole number that is at least {least}", raw)
        if len(raw) > 18:
            reject(f"option {name}", f"a whole number that is at least {least}, of at most 18 digits", raw)
        return whole(f"option {name}", int(raw), least=least)

    def number(self, name: str, default: float, *, least: float = 0.0, most: float = float("inf")) -> float:
        """An option that is a number."""
        raw = self.options.get(name)
        if raw is None:
            return default
        try:
            value = parse_number(raw)
        except (ValueError, OverflowError):
            reject(f"option {name}", f"a number that is at least {least:g}", raw)
        return number(f"option {name}", value, least=least, most=most)

    def size(self) -> tuple[int, int] | None:
        """The option ``size``: ``96`` or ``96x128`` (height x width); None where it is not given."""
        raw = self.options.get("size")
        if raw is None:
            return None
        match = re.fullmatch(r"([1-9]\d{0,4})(?:x([1-9]\d{0,4}))?", raw)
        if not match:
            reject("option size", "a size in pixels, as 96 or 96x128 (height x width)", raw)
        return int(match[1]), int(match[2] or match[1])

    def limit_bytes(self) -> float:
        """The most that the pixels may take in memory: option ``max_gib``, 8 GiB by default."""
        return self.number("max_gib", 8.0) * 2**30


def options_of(text: str, separator: str, allowed: Collection[str], source: str) -> dict[str, str]:
    """Read ``key=value`` pairs.

    Args:
        text: the pairs, possibly none.
        separator: what stands between pairs.
        allowed: the options that the source knows.
        source: its name, for the message.

    Returns:
        The options as text, in the order written.

    Raises:
        ValueError: not a pair, an option that the source does not know, or one given twice.

    Example:
        >>> options_of("size=32,count=10", ",", ("size", "count"), "scenes")
        {'size': '32', 'count': '10'}
    """
    options: dict[str, str] = {}
    for pair in text.split(separator) if text else ():
        key, equals, value = pair.partition("=")
        if not equals or not key or not value:
            reject("spec", f"options of {source!r} as key=value, separated by {separator!r}", pair)
        if key not in allowed:
            reject(
                "spec",
                f"an option of {source!r} ({quote_words(allowed)})",
                described(repr(key) + nearest(key, allowed)),
            )
        if key in options:
            reject("spec", f"each option of {source!r} once", described(f"{key!r} twice"))
        options[key] = value
    return options


def quote_words(words: Collection[str]) -> str:
    """Words for a message: quoted, separated by commas; ``none`` for no words; cut after a dozen."""
    some = [repr(word) for word in list(words)[:12]]
    return (", ".join(some) + (", …" if len(words) > 12 else "")) or "none"


def refuse_part(request: Request) -> None:
    """Refuse to split a set whose file name says it is a split: 20 % of a test set must not pass for the test set.

    Args:
        request: one whose source has a single set.

    Raises:
        ValueError: the last part of the path names a split, and the spec says neither where the other
            splits are (``{split}``) nor that the set is to be taken whole (``holdout=0``).
    """
    if request.split == "all" or "holdout" in request.options or "{split}" in request.path:
        return
    words = re.split(r"[^a-z]+", Path(request.path).stem.lower())
    named = [word for word in words if word in _SPLIT_WORDS]
    if named:
        reject(
            f"spec {request.source}",
            f"a path with {{split}} in the place of {named[0]!r}, or the parent folder, "
            "or ?holdout=0 to take this set whole",
            request.path,
        )


def one_set(dataset: Dataset, request: Request) -> Dataset:
    """The part of a single set that a split means: a stratified, seeded 80/20 division.

    The division depends on the spec alone (options ``holdout``, 0.2, and ``seed``, 0), never on what a caller
    asks for besides, so that ``train`` and ``test`` of one spec cannot overlap.

    Args:
        dataset: everything there is.
        request: the split, and the options; ``holdout=0`` gives the whole set for any split.

    Returns:
        The part.

    Raises:
        ValueError: the split is ``"val"``, or the part would be empty.
    """
    holdout = request.number("holdout", 0.2, most=0.95)
    if request.split == "all" or "{split}" in request.path or holdout == 0:
        return dataset
    if request.split == "val":
        reject("split", f"'train', 'test' or 'all', as {request.source!r} holds one set here", request.split)
    train, test = dataset.split(1 - holdout, seed=request.whole("seed", 0))
    part = train if request.split == "train" else test
    if len(part) == 0:
        reject("spec", f"enough images for a {request.split} part", described(f"{len(dataset)} in all"))
    words = f"{request.split} part, {len(part)} of {len(dataset)}, holdout={holdout:g}"
    return replace(part, name=f"{part.name} ({words})" if part.name else words)

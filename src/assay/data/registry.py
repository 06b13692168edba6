"""The sources by name. A new source is one new file and one line in `SOURCES`."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from assay.data import cifar, digits, folder, hub, idx, npz, parquet, patterns, torchvision
from assay.data.dataset import Dataset
from assay.data.decode import SUFFIXES
from assay.data.spec import SPLITS, Request, options_of, quote_words
from assay.data.synthetic import OPTIONS as _SCENES_OPTIONS
from assay.data.synthetic import load as _load_scenes
from assay.util.registry import Registry, instance_of
from assay.util.validate import described, one_of, reject


@dataclass(frozen=True)
class Source:
    """Where images can come from.

    Attributes:
        load: makes the set that a request asks for.
        help: one line for a list of the sources.
        example: a spec.
        options: the options that it knows.
        path: whether a path follows the name, ``npz:path?key=value&key=value``; if not, options follow it,
            ``scenes:key=value,key=value``.
    """

    load: Callable[[Request], Dataset]
    help: str
    example: str
    options: tuple[str, ...]
    path: bool = True


SOURCES: Registry[Source] = Registry(
    "spec",
    {
        "digits": Source(digits.load, "handwritten digits, 8×8, no download", "digits", digits.OPTIONS, path=False),
        "scenes": Source(
            _load_scenes, "synthetic scenes with exact masks", "scenes:size=32,count=2000", _SCENES_OPTIONS, path=False
        ),
        "patterns": Source(
            patterns.load,
            "made images of any size and number of classes, for trying things out",
            "patterns:size=32,classes=10,count=1000",
            patterns.OPTIONS,
            path=False,
        ),
        "npz": Source(npz.load, "a NumPy archive", "npz:images.npz?x=images&y=labels", npz.OPTIONS),
        "folder": Source(folder.load, "one folder of images a class", "folder:photos?size=96", folder.OPTIONS),
        "idx": Source(idx.load, "MNIST-style idx files", "idx:fashion", idx.OPTIONS),
        "cifar": Source(cifar.load, "CIFAR-10 or -100 as distributed", "cifar:cifar-10-batches-py", cifar.OPTIONS),
        "parquet": Source(parquet.load, "a table of images", "parquet:set-{split}.parquet", parquet.OPTIONS),
        "hf": Source(hub.load, "a set on the Hugging Face hub", "hf:org/name@revision", hub.OPTIONS),
        "torchvision": Source(
            torchvision.load, "a set of torchvision", "torchvision:CIFAR10:data", torchvision.OPTIONS
        ),
    },
    group="assay.data",
    adapt=instance_of(Source, "docs/plugins.md"),
)


def load(spec: str, *, split: str = "test", limit: int | None = None, seed: int = 0) -> Dataset:
    """Load labelled images by a spec.

    Args:
        spec: ``name``, ``name:key=value,…`` or ``name:path?key=value&…``; the sources are in `SOURCES`. In a path the
            last ``?`` begins the options.
        split: ``"train"``, ``"val"``, ``"test"``, or ``"all"`` for a source that holds one set. Such a set is divided
            80/20 by the spec alone, so that train and test never overlap.
        limit: at most so many samples, the classes as even as they can be (`Dataset.head`); None for all.
        seed: which samples, where there is a limit.

    Returns:
        The images, with ``name`` and ``source`` filled in.

    Raises:
        ImportError: the source needs a library that is missing.
        TypeError: ``limit`` or ``seed`` is not a whole number.
        ValueError: the spec, an option or the files are wrong; the message says how.

    Example:
        >>> load("scenes:count=8,size=16", split="test", limit=4)
        Dataset('scenes/test': 4 images 3×16×16 uint8, 8 classes, with masks)
    """
    one_of("split", split, SPLITS)
    name, request = _request(spec, split)
    result = SOURCES[name].load(request)
    return replace(result, name=f"{result.name or name}/{split}", source=result.source or spec).head(limit, seed)


def check(spec: str) -> str:
    """The spec, if it is one; files are not looked for.

    Raises:
        ValueError: an unknown source or option.
    """
    _request(spec, "test")
    return spec


def _request(spec: str, split: str) -> tuple[str, Request]:
    name, colon, rest = spec.partition(":")
    source = SOURCES.get(name)
    if source is None:
        reject("spec", f"one of the sources {quote_words(SOURCES)}", described(repr(spec) + _advice(spec, name)))
    if not source.path:
        return name, Request(name, "", options_of(rest, ",", source.options, name), split)
    path, mark, options = rest.rpartition("?")
    if not mark:
        path, options = rest, ""
    if not colon or not path:
        reject("spec", f"a path after the name, as {source.example!r}", spec)
    return name, Request(name, path, options_of(options, "&", source.options, name), split)


def _advice(spec: str, name: str) -> str:
    """What an unknown spec was likely meant to be."""
    path = Path(spec.partition("?")[0])
    if not spec:
        return ""
    if path.suffix in (".npz", ".parquet"):
        return f"; did you mean {path.suffix[1:] + ':' + spec!r}?"
    if path.suffix.lower() in SUFFIXES or path.is_dir():
        return f"; did you mean {'folder:' + (spec if path.is_dir() else str(path.parent.parent))!r}?"
    return SOURCES.suggest(name)

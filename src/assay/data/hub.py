"""``hf:org/name@revision``: image sets on the Hugging Face hub, read from their parquet files.

Only parquet files are fetched, and no code from the repository is ever run.
"""

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

from assay.data import parquet
from assay.data.dataset import Dataset
from assay.data.spec import Request, quote_words
from assay.util.validate import described, reject

OPTIONS = ("image", "label", "mask", "classes", "size", "mode", "config", "max_gib")

_CONVERTED = "refs/convert/parquet"
_SPLITS = {"train": ("train",), "val": ("validation", "valid", "val"), "test": ("test", "validation", "valid", "val")}


def load(request: Request) -> Dataset:
    """Load a set from the hub.

    Without ``@revision`` the main branch is read, or, where it holds no parquet files, the hub's own conversion; the
    commit that was found is kept in ``source``, which pins it. Where there is no test split, validation serves.
    Options: ``config`` chooses one of several configurations, the others are those of ``parquet:``.

    Args:
        request: repository (and revision), options and split.

    Returns:
        The images of the split, uint8.

    Raises:
        ImportError: huggingface_hub is missing or broken.
        ValueError: not a repository name, nothing found there, or several configurations and none chosen.
    """
    match = re.fullmatch(r"([\w.-]+/[\w.-]+|[\w.-]+)(?:@([\w./-]+))?", request.path)
    if not match:
        reject("spec hf", "hf:org/name or hf:org/name@revision", request.path)
    if request.split == "all":
        reject("split", "'train', 'val' or 'test' for a set on the hub", request.split)
    repository, revision = match[1], match[2]
    hub = _hub()
    commit, files = _listing(hub, repository, revision)
    chosen = select(files, request.split, request.text("config"), repository)
    try:
        paths = [Path(hub.hf_hub_download(repository, file, repo_type="dataset", revision=commit)) for file in chosen]
    except Exception as error:
        reject(f"hf {repository}", "files that can be fetched", described(f"{type(error).__name__}: {error}"))
    data = parquet.table(paths, request, repository.rpartition("/")[2])
    return replace(data, source=f"hf:{repository}@{commit}")


def select(files: Sequence[str], split: str, config: str | None, repository: str) -> list[str]:
    """The shards of a split among the files of a repository.

    Args:
        files: paths of the parquet files in the repository.
        split: ``"train"``, ``"val"`` or ``"test"``.
        config: the configuration, or None where there is one.
        repository: its name, for messages.

    Returns:
        The shards, sorted.

    Raises:
        ValueError: no such split or configuration, or several configurations and none chosen.

    Example:
        >>> select(["data/train-0-of-1.parquet", "data/test-0-of-1.parquet"], "test", None, "org/name")
        ['data/test-0-of-1.parquet']
    """
    for word in _SPLITS[split]:
        groups: dict[str, list[str]] = {}
        for file in sorted(files):
            name = _config(file, word)
            if name is not None:
                groups.setdefault(name, []).append(file)
        if not groups:
            continue
        chosen = next(iter(groups)) if config is None and len(groups) == 1 else config
        if chosen is None or chosen not in groups:
            reject(f"hf {repository}", f"option config= with one of {quote_words(sorted(groups))}", chosen)
        return groups[chosen]
    return reject(f"hf {repository}", f"parquet files of the split {split!r}", described(quote_words(sorted(files))))


def _config(file: str, split: str) -> str | None:
    """The configuration that a file belongs to, or None if it is not of this split."""
    path = PurePosixPath(file)
    folders = [part for part in path.parts[:-1] if part != "data"]
    if re.match(rf"{split}([-_.]|$)", path.stem):
        return "/".join(folders) or "default"
    if folders and folders[-1] == split:
        return "/".join(folders[:-1]) or "default"
    return None


def _hub() -> Any:
    try:
        import huggingface_hub
    except Exception as error:
        expected = 'huggingface_hub (pip install "assay[hf]")'
        reject("hf", expected, described(f"{type(error).__name__}: {error}"), error=ImportError)
    return huggingface_hub


def _listing(hub: Any, repository: str, revision: str | None) -> tuple[str, list[str]]:
    """The commit that was found, and its parquet files."""
    for candidate in (revision,) if revision else (None, _CONVERTED):
        try:
            info = hub.HfApi().dataset_info(repository, revision=candidate)
        except Exception as error:
            at = f" at {candidate!r}" if candidate else ""
            reject(f"hf {repository}", f"a data set on the hub{at}", described(f"{type(error).__name__}: {error}"))
        files = [s.rfilename for s in info.siblings or () if s.rfilename.endswith(".parquet")]
        if files:
            return str(info.sha), files
    return reject(f"hf {repository}", "parquet files in the repository", described("none"))

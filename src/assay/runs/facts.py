"""What a result depends on besides the question: versions, hardware, numerics."""

import hashlib
import platform
from datetime import UTC, datetime
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

DECIDING = ("attacks", "core", "defences", "masks", "models")
"""The parts of assay that decide a verdict."""


def facts() -> dict[str, str]:
    """Versions, hardware and date, as words for a report."""
    found = {
        "assay": package_version("assay"),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "processor": f"{processor()}, {torch.get_num_threads()} threads",
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
    }
    if torch.cuda.is_available():
        found["accelerator"] = torch.cuda.get_device_name()
    return found


@lru_cache
def code_digest(*more: str) -> str:
    """SHA-256 over the sources that decide a verdict: `DECIDING`, and ``more`` folders."""
    root = Path(__file__).resolve().parent.parent
    found = hashlib.sha256()
    for folder in (*DECIDING, *more):
        for path in sorted((root / folder).rglob("*.py")):
            found.update(path.name.encode() + b"\0" + path.read_bytes())
    return found.hexdigest()


def processor() -> str:
    """The processor's name, where the system tells it."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            names = [line.partition(":")[2].strip() for line in file if line.startswith("model name")]
    except OSError:
        names = []
    return names[0] if names else platform.processor() or platform.machine()


def package_version(name: str) -> str:
    """A package's version, or ``"not installed"``."""
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"

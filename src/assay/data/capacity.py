"""Check available memory before allocating."""

import os
from pathlib import Path

from assay.util.validate import described, reject

_SHARE = 0.8
"""Share of the free memory that images may take."""

_CGROUPS = (
    ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
    ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory/memory.usage_in_bytes"),
)


def available_bytes() -> float:
    """Memory that this process can still take: the machine's, and what its container allows; infinity if unknown."""
    limits = [_machine()]
    for most, used in _CGROUPS:
        try:
            limits.append(float(Path(most).read_text()) - float(Path(used).read_text()))
        except (OSError, ValueError):  # no such file; "max"
            continue
    return min(limits)


def check_memory(name: str, count: int, each: float, working: float = 0.0) -> None:
    """Refuse what would take more memory than there is.

    Args:
        name: the argument, for the message.
        count: images.
        each: bytes an image.
        working: bytes that making them takes besides.

    Raises:
        ValueError: more than 80 % of the memory that is free.

    Example:
        >>> check_memory("count", 10, 3072)
    """
    free = available_bytes()
    needed = count * each + working
    if needed > _SHARE * free:
        reject(
            name,
            f"images that fit into the memory that is free, {in_gib(free)} (a smaller size, or fewer images)",
            described(f"{count:,} of {each / 2**10:,.1f} KiB, {in_gib(needed)} in all"),
        )


def in_gib(size: float) -> str:
    """A number of bytes for a message.

    Example:
        >>> in_gib(3 * 2**30)
        '3.0 GiB'
    """
    return f"{size / 2**30:,.1f} GiB"


def _machine() -> float:
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return float(line.split()[1]) * 1024
    except (OSError, ValueError, IndexError):
        pass
    try:
        return float(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    except (OSError, ValueError, AttributeError):  # no such name on this system
        return float("inf")

"""The folder of a run: who may write to it, and what kind of disk it is on."""

import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from assay.core.arguments import described, reject
from assay.core.files import atomic_write

_NETWORK = frozenset({"nfs", "nfs4", "cifs", "smb3", "smbfs", "afs", "lustre", "gpfs", "beegfs", "ceph", "glusterfs",
                      "fuse.sshfs", "fuse.glusterfs", "fuse.s3fs", "9p", "orangefs"})  # fmt: skip
_LOCK, _HOLDER = ".lock", ".holder"
_PATIENCE = 1.0


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Hold a run's folder: no other process writes to it meanwhile.

    The lock belongs to the process and goes with it, however it ends.

    Args:
        folder: is made if it is missing.

    Raises:
        ValueError: another process holds it.
        OSError: it cannot be written to.
    """
    from filelock import FileLock, Timeout

    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / _LOCK)
    try:
        lock.acquire(timeout=_PATIENCE, poll_interval=0.02)  # one who only looks has it for a moment
    except Timeout:
        who = _named(folder) or "another process"
        reject("out", "a folder that no other process is writing to (assay status only reads)",
               described(f"{folder}, which {who} holds"))  # fmt: skip
    try:
        atomic_write(folder / _HOLDER, f"process {os.getpid()} on {platform.node()}")
        yield
        (folder / _HOLDER).unlink(missing_ok=True)
    finally:
        lock.release()


def holder(folder: Path) -> str:
    """Who is writing to a run's folder, such as ``process 12 on host``; empty for nobody."""
    try:
        import fcntl
    except ImportError:  # elsewhere than on POSIX systems there is no shared lock
        return _probed(folder)
    try:
        with (folder / _LOCK).open("rb") as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)  # any number may look at once
    except BlockingIOError:
        return _named(folder) or "another process"
    except OSError:
        return ""
    return ""


def _probed(folder: Path) -> str:
    from filelock import FileLock, Timeout

    if not (folder / _LOCK).is_file() or not os.access(folder / _LOCK, os.W_OK):
        return ""
    try:
        with FileLock(folder / _LOCK, timeout=0):
            return ""
    except Timeout:
        return _named(folder) or "another process"


def _named(folder: Path) -> str:
    try:
        return (folder / _HOLDER).read_text(encoding="utf-8").strip()
    except OSError:
        return ""


def on_network(folder: Path) -> bool:
    """Whether a folder is on a network file system, where SQLite's write-ahead log does not work.

    Source: sqlite.org/wal.html, "All processes using a database must be on the same host computer".
    """
    try:
        lines = Path("/proc/mounts").read_text(encoding="utf-8").splitlines()
    except OSError:
        return False
    here, best, kind = folder.resolve(), "", ""
    for line in lines:
        _, place, name, *_ = line.split()
        place = place.replace("\\040", " ")
        if here.is_relative_to(place) and len(place) >= len(best):
            best, kind = place, name
    return kind in _NETWORK

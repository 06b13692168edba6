"""Fault injection for tests: named points at which the process kills itself."""

import os
import signal

VARIABLE = "ASSAY_FAULT"
"""``name`` or ``name:k``: the process kills itself the k-th time it reaches that point."""


def fault_point(name: str) -> None:
    """Kill the process with SIGKILL if ``ASSAY_FAULT`` names this point; do nothing otherwise.

    Args:
        name: of the point, such as ``"images-written"``.
    """
    setting = os.environ.get(VARIABLE, "")
    if not setting:
        return
    point, _, count = setting.partition(":")
    if point != name:
        return
    left = int(count or 1) - 1
    if left > 0:
        os.environ[VARIABLE] = f"{point}:{left}"
        return
    os.kill(os.getpid(), signal.SIGKILL)

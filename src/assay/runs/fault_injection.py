"""Named points at which a test can end the process, to see that nothing is lost."""

import os
import signal

VARIABLE = "ASSAY_FAULT"
"""``name`` or ``name:k``: the process kills itself at the k-th crossing of that point."""


def fault_point(name: str) -> None:
    """Go on, unless the environment asks for this point; then as ``kill -9`` would.

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

"""Ctrl-C and SIGTERM during a run: the first asks for an end, the second makes it."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM)
_STOP_MESSAGE = b"\nstopping when what is under way is done; once more to stop at once (it is then repeated)\n"


@dataclass
class StopRequest:
    """Whether an end was asked for.

    Attributes:
        signal: the signal that asked, 0 for none. The exit code is 128 more.
    """

    signal: int = 0


@contextmanager
def catch_signals() -> Iterator[StopRequest]:
    """Take note of the first signal, and raise `KeyboardInterrupt` at the second.

    The handler takes note and says so, no more: files are written by the loop that asks. Outside the main thread,
    where Python delivers no signals, nothing is changed; a signal that is ignored stays so.
    """
    stop = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return

    def handle(number: int, _: FrameType | None) -> None:
        if stop.signal:
            raise KeyboardInterrupt
        stop.signal = number
        os.write(2, _STOP_MESSAGE)  # not through a buffer that the program may just be writing to

    previous_handlers: dict[int, Any] = {
        number: signal.signal(number, handle) for number in SIGNALS if signal.getsignal(number) is not signal.SIG_IGN
    }
    try:
        yield stop
    finally:
        for number, handler in previous_handlers.items():
            signal.signal(number, handler)

"""Ctrl-C and SIGTERM during a run: the first requests a stop, the second stops at once."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM)
_STOP_MESSAGE = b"\nstopping after the running tasks; interrupt again to stop at once (they are then repeated)\n"


@dataclass
class StopRequest:
    """Whether the user has asked to stop.

    Attributes:
        signal: the signal received, 0 for none. The exit code is 128 + signal.
    """

    signal: int = 0


@contextmanager
def catch_signals() -> Iterator[StopRequest]:
    """Record the first signal; raise `KeyboardInterrupt` at the second.

    The handler only records the signal and prints a message; the loop that polls it writes files. Outside the main
    thread,
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
        os.write(2, _STOP_MESSAGE)  # unbuffered: the program may be writing to the stream

    previous_handlers: dict[int, Any] = {
        number: signal.signal(number, handle) for number in SIGNALS if signal.getsignal(number) is not signal.SIG_IGN
    }
    try:
        yield stop
    finally:
        for number, handler in previous_handlers.items():
            signal.signal(number, handler)

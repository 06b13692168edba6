"""Progress of a long job: a callback, a bar on a terminal, a line a while elsewhere."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass


@dataclass(frozen=True)
class Progress:
    """Where an attack is.

    Attributes:
        name: what runs.
        done: samples that have come to their end.
        total: samples.
        broken: adversarial examples found.
        passes: forward and backward passes spent.
    """

    name: str
    done: int
    total: int
    broken: int
    passes: int


ProgressCallback = Callable[[Progress], None]
"""Called with the progress of an attack, sample by sample."""

NoteCallback = Callable[[str], None]
"""Called with a sentence for each event."""

WorkCallback = Callable[[str, int, int], None]
"""Called with what is being done, how much of it is done, and of how much."""


def no_note(text: str) -> None:
    """A `NoteCallback` that does nothing."""


def no_progress(what: str, done: int, of: int) -> None:
    """A `WorkCallback` that does nothing."""


@dataclass(frozen=True)
class Reporter:
    """Where a long job says what it does and how far it is; nowhere by default.

    Attributes:
        note: called with a sentence for each event.
        samples: called with the progress of attacks, sample by sample; None where nobody looks.
        work: called with the progress of everything else: checks, diagnostics, examples.

    Example:
        >>> reporter = Reporter(note=print)
        >>> reporter.note("data: digits, 64 images are attacked")
        data: digits, 64 images are attacked
    """

    note: NoteCallback = no_note
    samples: ProgressCallback | None = None
    work: WorkCallback = no_progress


SILENT = Reporter()
"""Says nothing."""


@contextmanager
def show_progress(*, quiet: bool = False, every: float = 15.0) -> Iterator[ProgressCallback | None]:
    """A callback that shows progress: a rich bar on a terminal or in a notebook, else now and then a line.

    Args:
        quiet: show nothing (the callback is None).
        every: seconds between lines where there is no terminal.
    """
    if quiet:
        yield None
        return
    if not sys.stderr.isatty() and not _in_notebook():
        yield _lines(every)
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[broken]} broken", markup=False),
        TimeRemainingColumn(),
    )
    with Bar(*columns, console=Console(stderr=True)) as bar:
        tasks: dict[str, object] = {}

        def show(now: Progress) -> None:
            task = tasks.get(now.name)
            if task is None:
                task = tasks[now.name] = bar.add_task(now.name, total=now.total, broken=0)
            bar.update(task, completed=now.done, total=now.total, broken=now.broken)  # type: ignore[arg-type]

        yield show


def _in_notebook() -> bool:
    """Whether a notebook shows what is printed: then a bar is drawn there, too."""
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return type(shell).__name__ == "ZMQInteractiveShell"


def _lines(every: float) -> ProgressCallback:
    last = {"at": time.monotonic()}

    def show(now: Progress) -> None:
        if time.monotonic() - last["at"] >= every:
            last["at"] = time.monotonic()
            name = "".join(c if c.isprintable() else "?" for c in now.name)  # no escape sequence from a model's name
            spent = f", {now.broken} broken, {now.passes} passes" if now.passes else ""
            sys.stderr.write(f"{name}: {now.done}/{now.total} samples{spent}\n")
            sys.stderr.flush()

    return show

"""The application: commands, errors as sentences, exit codes.

Exit codes: 0 done, 1 failed, 2 wrong input, 3 done and refused, 130 and 143 interrupted (the same command resumes), 141
nobody read the output to its end.
"""

import errno
import os
import re
import select
import signal
import sys
import threading
import traceback
import warnings
from collections.abc import Collection, Sequence
from contextlib import suppress
from functools import partial
from types import FrameType
from typing import TYPE_CHECKING, NamedTuple, NoReturn, TextIO

from cyclopts import App, Parameter

from assay.cli.output import print_error
from assay.cli.parse_value import format_default, plain_kind, read_value
from assay.util.console import print_note
from assay.util.packages import package_version

if TYPE_CHECKING:
    from cyclopts import CycloptsError

INTERRUPTED, TERMINATED, UNREAD = 130, 143, 141


_SYNONYMS = {"--max-queries": "--max-forwards"}
"""Options with two names: what a black box counts is queries."""


class Command(NamedTuple):
    """A command; its module is imported when it is used.

    Attributes:
        name: of the command, and of its function.
        module: in ``assay.cli``.
        help: the first line of the function's docstring.
    """

    name: str
    module: str
    help: str


COMMANDS = (
    Command("demo", "demo", "Train six small models, attack them, and write one report."),
    Command("evaluate", "evaluate", "Measure robust accuracy: attack classifiers and write a report."),
    Command("check", "check", "Check on a few images whether a robust accuracy can be trusted."),
    Command("init", "init", "Write a study file with comments, to begin with."),
    Command("run", "run", "Run a study from a YAML file, or resume it."),
    Command("status", "runs", "Show how far a run is, also while it is running."),
    Command("verify", "runs", "Verify a run: its files, its ledger, and every adversarial image against its model."),
    Command("compare", "runs", "Compare two runs, or the models of one, sample by sample."),
    Command("export", "runs", "Export results as a model card, as JUnit XML, or to MLflow."),
    Command("report", "runs", "Rebuild a run's tables and report from its ledger, or print it as Markdown."),
    Command("serve", "serve", "Browse the reports of many runs on this machine."),
    Command("diagnose", "diagnose", "Diagnose why a model breaks, or what training does to it."),
    Command("signatures", "signatures", "Learn to recognise which attack made an image."),
    Command("identify", "signatures", "Identify the attack that made an image."),
    Command("corruptions", "corruptions", "Measure accuracy under noise, blur, weather and digital corruptions."),
    Command("train", "train", "Train a classifier, or resume its training."),
    Command("fit", "fit", "Train a defence, such as a detector, or a saliency model, or resume its training."),
    Command("data", "prepare", "Prepare a data set of a paper from the files in which its authors distribute it."),
    Command("ls", "listing", "List attacks, data sources, models, defences and more by name."),
    Command("doctor", "doctor", "Check the installation: versions, hardware, optional packages, and a self-test."),
)


def app(command: str = "") -> App:
    """The command line application.

    Args:
        command: the command that will be used: its help is its whole docstring, not the first line alone.
    """
    result = App(
        name="assay",
        help="How an image classifier breaks, how to harden it, and why. Add --debug for a traceback.",
        version=package_version("assay"),
        help_format="markdown",
        default_parameter=Parameter(
            converter=read_value, negative_iterable=(), show_default=format_default, json_list=False, json_dict=False
        ),
        suppress_keyboard_interrupt=False,  # our message says how to resume
    )
    for known in COMMANDS:
        short = {} if known.name == command else {"help": known.help}
        result.command(f"assay.cli.{known.module}:{known.name}", name=known.name, **short)
    result.register_install_completion_command(help="Install completion for the shell in use (bash, zsh, fish).")
    return result


def program() -> NoReturn:
    """Run the command that the process was started with, and end the process with its exit code.

    With Ray loaded it ends at once: a finished command could hang at interpreter shutdown.
    Ray ends its workers in the same way (its pull request 18899).
    """
    sys.stdout = sys.stdout or open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 (closed: assay ls >&-)
    sys.stderr = sys.stderr or open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
    code = main()
    if not _has_reader():
        _drop_output()
    if "ray" in sys.modules:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command.

    Args:
        arguments: the words after the program's name; by default those of the process.

    Returns:
        The exit code.
    """
    tokens = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in tokens
    tokens = _join_negative_numbers([_own_word(word) for word in tokens if word != "--debug"])
    previous_handler = signal.signal(signal.SIGTERM, _terminated) if _is_default() else None
    try:
        with warnings.catch_warnings():
            warnings.showwarning = partial(_warn, set())
            code = app(tokens[0] if tokens else "")(
                tokens, exit_on_error=False, print_error=False, result_action="return_value"
            )
        return code if isinstance(code, int) else 0
    except Terminated:
        print_error("terminated; run the same command to resume")
        return TERMINATED
    except KeyboardInterrupt:
        print_error("interrupted; run the same command to resume")
        return INTERRUPTED
    except SystemExit as stop:
        if isinstance(stop.__context__, BrokenPipeError):  # a printer of tables ended the process
            return UNREAD
        return stop.code if isinstance(stop.code, int) else 1
    except Exception as error:
        if isinstance(error, BrokenPipeError) and not _has_reader():
            return UNREAD
        if debug:
            traceback.print_exc()
        return _print_exception(error)
    finally:
        if previous_handler is not None:  # ignore further signals while the process exits
            signal.signal(signal.SIGTERM, signal.SIG_IGN if arguments is None else previous_handler)


def _own_word(word: str) -> str:
    """The word with our name for an option that has two."""
    flag, equals, value = word.partition("=")
    return _SYNONYMS.get(flag.replace("_", "-"), flag) + equals + value if flag.startswith("--") else word


def _join_negative_numbers(words: Sequence[str]) -> list[str]:
    """The words, with a negative number joined to its flag: ``--eps -1/255`` is no flag without a value.

    Example:
        >>> _join_negative_numbers(["--eps", "-1/255", "-o", "out"])
        ['--eps=-1/255', '-o', 'out']
    """
    joined: list[str] = []
    for word in words:
        if joined and re.match(r"-\.?\d", word) and re.fullmatch("--[a-z-]+", joined[-1]):
            joined[-1] += f"={word}"
        else:
            joined.append(word)
    return joined


class Terminated(KeyboardInterrupt):
    """SIGTERM: an interrupt like that of Ctrl-C."""


def _terminated(number: int, frame: FrameType | None) -> None:
    raise Terminated


def _is_default() -> bool:
    """Whether SIGTERM has its default action and may get a handler here."""
    here = threading.current_thread() is threading.main_thread()
    return here and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def _has_reader() -> bool:
    """Whether somebody still reads standard output (``assay ls | head`` ends early)."""
    try:
        poll = select.poll()
        poll.register(sys.stdout.fileno(), 0)
        return not any(events & select.POLLERR for _, events in poll.poll(0))
    except (AttributeError, OSError, ValueError):  # no such call on this system, or no such file
        return True


def _drop_output() -> None:
    """Send the rest of standard output nowhere, so that the interpreter's last flush does not fail."""
    with suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())


def _warn(
    shown: set[str],
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """A warning as a line, once, without the place in the code."""
    del filename, lineno, file, line
    text = f"{'warning' if category is UserWarning else category.__name__}: {message}"
    if text not in shown:
        shown.add(text)
        print_note(text)


def _of_the_parser(error: "CycloptsError") -> str:
    """What is wrong with the words of a command, in our words where the check is ours."""
    from cyclopts import UnknownOptionError
    from pydantic import ValidationError

    from assay.util.fields import fault_text

    cause, argument = error.__cause__, error.argument
    if isinstance(cause, ValidationError) and argument is not None:
        words = [token.value for token in argument.tokens]
        typed = words[0] if len(words) == 1 and "," not in words[0] else None
        noun = "whole number" if "int" in str(plain_kind(argument.hint)) else "number"
        return f"{argument.names[0]}: {fault_text(cause.errors(include_url=False)[0], typed, noun=noun)}"
    if isinstance(error, UnknownOptionError):
        options = {name for known in error.argument_collection or () for name in known.names}
        return _unknown_option(error.token.keyword or error.token.value, options) or str(error)
    return str(cause if isinstance(cause, ValueError) else error)


def _unknown_option(flag: str, options: Collection[str]) -> str:
    """A message about an option that is known by another name to a command with these; empty if it is not."""
    from assay.util.renamed import renamed
    from assay.util.spec import ALIASES

    name = flag.lstrip("-").replace("-", "_")
    hint = renamed(name).replace("_", "-").replace("'", "'--", 1)
    if hint and any(option in hint for option in options):
        return f"unknown option {flag}{hint}"
    if name in ALIASES and f"--{ALIASES[name]}" in options:
        return f"unknown option {flag} (did you mean --{ALIASES[name]}?)"
    if name in ALIASES and "--suite" in options:
        return f"unknown option {flag}: an attack takes it as {ALIASES[name]}, as in --attack pgd:{ALIASES[name]}=…"
    return ""


def _print_exception(error: Exception) -> int:
    """Print one sentence about an error; return 2 for wrong input, 1 otherwise."""
    from cyclopts import CycloptsError

    if isinstance(error, CycloptsError):
        print_error(" ".join(_of_the_parser(error).split()))
        return 2
    kinds = (
        ValueError,
        TypeError,
        FileNotFoundError,
        ImportError,
        PermissionError,
        NotADirectoryError,
        IsADirectoryError,
        FileExistsError,
    )
    wrong_input = isinstance(error, kinds) or getattr(error, "errno", None) in (errno.ENAMETOOLONG, errno.ELOOP)
    if isinstance(error, OSError) and wrong_input and error.filename:  # the system's, not ours
        shown = str(error.filename)
        shown = shown if len(shown) <= 200 else f"{shown[:200]}…"
        print_error(f"{shown}: {(error.strerror or 'no such file').lower()}; name another file or folder")
        return 2
    full = getattr(error, "sqlite_errorname", "") == "SQLITE_FULL"
    if full or getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT):
        where = f" in {os.path.dirname(error.filename)}" if isinstance(error, OSError) and error.filename else ""
        print_error(f"no space is left{where}: free some, and repeat the same command; what was done is kept")
        return 1
    name = "" if wrong_input else f"{type(error).__name__}: "
    hint = " (unexpected: --debug shows where; assay verify says whether a run's folder is whole)"
    print_error(f"{name}{error}{hint if isinstance(error, LookupError | AttributeError) else ''}")
    return 2 if wrong_input else 1

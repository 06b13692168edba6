"""The index page of the server: a list of runs."""

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from assay.report.page import environment, policy, read_template


@dataclass(frozen=True)
class RunRow:
    """One run.

    Attributes:
        name: its folder.
        title: its heading; may be empty.
        state: how far it is, in a word or two; may be empty.
        models: names.
        done: records that are there.
        total: records that there will be.
        lowest: the lowest robust accuracy of a single attack so far; None without.
        pages: name and address of each page.
    """

    name: str
    title: str
    state: str
    models: tuple[str, ...]
    done: int
    total: int
    lowest: float | None
    pages: tuple[tuple[str, str], ...]


def render_index(runs: Sequence[RunRow]) -> str:
    """Make the page: no script, nothing from outside.

    Args:
        runs: texts may hold anything; they are shown as text.
    """
    style = read_template("report.css")
    return (
        environment()
        .get_template("index.html.j2")
        .render(
            policy=policy(style, ""),
            style=Markup(style),  # noqa: S704 (our own)
            runs=runs,
        )
    )

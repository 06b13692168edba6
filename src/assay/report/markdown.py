"""A run's result as Markdown, for a comment on a pull request."""

from collections.abc import Mapping, Sequence
from typing import Any


def to_markdown(summaries: Sequence[Mapping[str, Any]]) -> str:
    """The verdicts, brackets and attacks of a run as Markdown tables.

    Args:
        summaries: as in ``summary.json``, one a data set.

    Returns:
        Markdown as GitHub and GitLab show it.
    """
    return "\n".join(line for summary in summaries for line in _study(summary)).strip() + "\n"


def _study(summary: Mapping[str, Any]) -> list[str]:
    lines = [f"### {_text(summary['title'])}", "", _text(summary["dataset"]), ""]
    rows = [
        (
            model["model"],
            _percent(model["clean_accuracy"]),
            f"**{_percent(model['robust_accuracy'])}**",
            _interval(model["interval"]),
            str(model["n"]),
            str((model.get("grade") or {}).get("grade") or "–"),
        )
        for model in summary["models"]
    ]
    head = ("model", "clean", "robust, worst case", "95 % interval", "n", "evidence")
    lines += [
        *_table(head, rows),
        "",
        f"Budgets: {', '.join(summary['headline']) or 'none'}. The robust accuracy is an ",
    ]
    lines[-1] += "upper bound; the evidence is of the evaluation, not of the model."
    if summary.get("certificates"):
        lines += ["", *_table(("model", "budget", "certified", "attacked", "open"), _brackets(summary["certificates"]))]
    cells = [
        (cell["model"], cell["attack"], _percent(cell["robust_accuracy"]), _interval(cell["interval"]))
        for cell in summary["cells"]
    ]
    attacks = _table(("model", "attack", "robust", "95 % interval"), cells)
    lines += ["", f"<details><summary>{len(cells)} attacks</summary>", "", *attacks, "", "</details>", ""]
    return lines + [f"> {_text(warning)}" for warning in summary.get("warnings", ())]


def _brackets(certificates: Sequence[Mapping[str, Any]]) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = []
    for own in certificates:
        low, high = own["certified_accuracy"], own["possible_accuracy"]
        between = "–" if low is None or high is None else _percent(high - low)
        rows.append((own["model"], own["budget"], _percent(low), _percent(high), between))
    return rows


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    lines = [f"| {' | '.join(head)} |", f"|{' --- |' * len(head)}"]
    return lines + [f"| {' | '.join(map(_text, row))} |" for row in rows]


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.1f} %"


def _interval(value: Sequence[float] | None) -> str:
    return "–" if value is None else f"{100 * value[0]:.1f} to {100 * value[1]:.1f}"


def _text(value: Any) -> str:
    """Text that cannot end a cell or begin markup."""
    plain = " ".join(str(value).split())
    return plain.replace("|", "\\|").replace("<", "&lt;")

"""docs/papers.md: every figure and table of the five papers, the studies that show it, and what was measured last.

python papers.py            # writes the page
"""

import json
import re
from dataclasses import dataclass

from common import HERE

from assay.store.judged_claims import threshold_of
from assay.study.parse import read_study

ROOT = HERE.parent
PAPERS = ("dual-perturbation", "adversarial-training", "structured-attack", "survey", "signatures")
"""What the names of a paper's studies begin with, in the order of the papers."""

KINDS = ("figure", "table")


@dataclass(frozen=True)
class Entry:
    """A figure or table of a paper.

    Attributes:
        name: such as ``figure 3``.
        shows: in words.
        small: what of the small study shows it, or why nothing does.
        real: the same of the studies on real data that a processor can run, by study.
        paper: the same of the studies of the paper's size, by study.
    """

    name: str
    shows: str
    small: str
    real: str
    paper: str


def names(label):
    """``figures 3, 8–10`` as single names.

    >>> names("figures 3, 8–10"), names("figure A1"), names("tables 2, 6")
    (['figure 3', 'figure 8', 'figure 9', 'figure 10'], ['figure A1'], ['table 2', 'table 6'])
    """
    kind, _, rest = label.partition(" ")
    kind = kind.removesuffix("s")
    if kind not in KINDS:
        return [label]
    singles = []
    for part in rest.split(", "):
        first, dash, last = part.partition("–")
        mark = re.match(r"[A-Z]?", first)[0]
        if dash:
            ends = (int(first.removeprefix(mark)), int(last.removeprefix(mark)))
            singles += [f"{kind} {mark}{n}" for n in range(ends[0], ends[1] + 1)]
        else:
            singles.append(f"{kind} {part}")
    return singles


def place(name):
    """Figures before tables, by number; what has a name of its own as it comes."""
    kind, _, rest = name.partition(" ")
    if kind not in KINDS:
        return len(KINDS), "", 0, ""
    mark, digits, letter = re.fullmatch(r"([A-Z]?)(\d*)(.*)", rest).groups()
    return KINDS.index(kind), mark, int(digits or 0), letter


def said(figure):
    """What of a study shows a figure, or why nothing does."""
    return ", ".join(figure.by) if figure.by else f"not here: {figure.without}"


def entries(small, real, papers):
    """The figures and tables of a paper, in order."""
    shows, columns = {}, {}
    for column, studies in (("small", [(small, "")]), ("real", real), ("paper", papers)):
        for study, name in studies:
            for figure in study.figures:
                if column == "real" and not figure.by:
                    continue  # the small study says why
                for single in names(figure.id):
                    shows.setdefault(single, figure.shows)
                    said_by = columns.setdefault((single, column), {})
                    said_by[name] = said(figure)
    return [
        Entry(name, shows[name], *(joined(columns.get((name, column), {})) for column in ("small", "real", "paper")))
        for name in sorted(shows, key=place)
    ]


def joined(said_by):
    """What each study says, with its name; what is not shown only where no study shows it."""
    shown = {study: text for study, text in said_by.items() if not text.startswith("not here")}
    by_text = {}
    for study, text in (shown or said_by).items():
        by_text.setdefault(text, []).append(study)
    return (
        "; ".join(f"{', '.join(studies)}: {text}" if any(studies) else text for text, studies in by_text.items()) or "–"
    )


def cell(text):
    return str(text).replace("|", "\\|").replace("\n", " ")


def table(head, rows):
    lines = ["| " + " | ".join(head) + " |", "| " + " | ".join("---" for _ in head) + " |"]
    return "\n".join([*lines, *("| " + " | ".join(map(cell, row)) + " |" for row in rows)])


def claims(small, papers, measured):
    """The claims of a paper: where, its sentence and number, ours."""
    rows = []
    for claim in small.claims:
        ours = measured.get(claim.says)
        last = f"{ours['ours']} ({ours['interval']})" if ours else "not measured yet"
        rows.append(
            (
                claim.figure or claim.source or "–",
                claim.says,
                claim.theirs or "–",
                threshold_of(claim) or "–",
                last,
                f"**{ours['verdict']}**" if ours and ours["verdict"] else "–",
            )
        )
    more = {claim.says for study, _ in papers for claim in study.claims} - {claim.says for claim in small.claims}
    return rows, sorted(more)


def studies_of(folder, stem):
    """The studies of a paper in a folder, with what tells them apart."""
    files = sorted((ROOT / "studies" / folder).glob(f"{stem}*.yaml"))
    return [(read_study(path), path.stem.removeprefix(stem).strip("-") or folder) for path in files]


def section(stem):
    ((small, _),), real, papers = (studies_of(folder, stem) for folder in ("small", "real", "paper"))
    lines = [f"## {small.paper.strip()}", ""]
    if (ROOT / "docs" / f"{stem}.png").is_file():
        lines += [f"![{small.title}: the last run of the small study]({stem}.png)", ""]
    rows = [(e.name, e.shows, e.small, e.real, e.paper) for e in entries(small, real, papers)]
    lines += [table(("in the paper", "shows", "small study", "on real data", "of the paper's size"), rows), ""]
    for study, name in ((small, "small study"), *((study, f"{name}, on real data") for study, name in real)):
        measured = measurements("studies" if study is small else "studies-real", study.title)
        rows, more = claims(study, papers, measured)
        lines += [table(("where", "the paper says", "its number", "holds here", f"{name}, last", "verdict"), rows), ""]
        if more and study is small:
            lines += ["Claims of the studies of the paper's size besides: " + " ".join(more), ""]
    return lines


def measurements(benchmark, title):
    """What was measured last for each claim of a study."""
    path = HERE / "results" / f"{benchmark}.json"
    rows = json.loads(path.read_text())["rows"] if path.is_file() else []
    return {c["says"]: c for row in rows if row.get("title") == title for c in row["claims"] if "interval" in c}


def page():
    """The page's text."""
    lines = [
        "# The five papers, figure by figure",
        "",
        "Written by `benchmarks/papers.py` from the studies' own lists (`assay run FILE --list-claims`) and from",
        "the last runs of the small ones and of those on real data (`benchmarks/results/studies.json` and",
        "`studies-real.json`). A claim holds where the whole 95 % interval is beyond the threshold; see",
        "[studies](studies.md). The studies of the papers' size need their data and a GPU, and were not run here;",
        "`assay run FILE --plan` says what each would cost.",
        "",
    ]
    for stem in PAPERS:
        lines += section(stem)
    return "\n".join(lines).rstrip() + "\n"


if __name__ == "__main__":
    (ROOT / "docs" / "papers.md").write_text(page(), encoding="utf-8")

"""The picture of the survey: robust accuracy of every defence under every attack, plain and adaptive side by side.

python survey_picture.py ../runs/survey        # a run of studies/small/survey.yaml; writes docs/survey.png
"""

import argparse
import json
from pathlib import Path

from common import HERE

PLAIN = ", plain"
"""What ends the name of a defence that is not attacked adaptively."""


def shares(summary):
    """Robust accuracy by model and attack; NaN where some samples are not decided."""
    table = {}
    for cell in summary["cells"]:
        attack = cell["attack"].partition(" (")[0]
        least, most = cell["readings"]
        table.setdefault(cell["model"], {})[attack] = 100 * least if least == most else float("nan")
    return table


def draw(table, clean, path):
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    models = [name for name in table if not name.endswith(PLAIN)]
    attacks = list(table[models[0]])
    sides = (
        ("attacked as they declare (adaptive)", [table[name] for name in models]),
        (
            "attacked through the gradients that they let through (plain)",
            [table.get(name + PLAIN, {}) for name in models],
        ),
    )
    figure, axes = plt.subplots(1, 2, figsize=(13, 0.34 * len(models) + 2.4), sharey=True, layout="constrained")
    for axis, (title, rows) in zip(axes, sides, strict=True):
        values = [[row.get(attack, float("nan")) for attack in attacks] for row in rows]
        axis.imshow(values, vmin=0, vmax=100, cmap="viridis", aspect="auto")
        for i, row in enumerate(values):
            for j, value in enumerate(row):
                if value == value:  # a defence that only trains is attacked in one way
                    colour = "black" if value > 60 else "white"
                    axis.text(j, i, f"{value:.0f}", ha="center", va="center", fontsize=7.5, color=colour)
        axis.set_title(title, fontsize=10)
        axis.set_xticks(range(len(attacks)), attacks, rotation=40, ha="right", fontsize=8)
        axis.set_yticks(range(len(models)), [f"{name} ({100 * clean[name]:.0f})" for name in models], fontsize=8)
    figure.suptitle("Robust accuracy, % (clean accuracy beside the name)", fontsize=11)
    figure.savefig(path, dpi=90)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    arguments = parser.parse_args()
    summary = json.loads((arguments.run / "summary.json").read_text())
    clean = {row["model"]: row["clean_accuracy"] for row in summary["models"]}
    draw(shares(summary), clean, HERE.parent / "docs" / "survey.png")


if __name__ == "__main__":
    main()

"""How many adversarial images survive being written as PNG, by rounding alone and by a search on the grid.

Run `make eight_bit`. Fashion-MNIST, networks and budgets as in `speed.py`; each exported file is read with Pillow and
shown to the model. Robust accuracies are those of the attack, with rounded images, and with exported ones.
"""

import tempfile
from pathlib import Path

from common import fashion, models, record

import assay

COUNT = 256
ATTACKS = {
    "PGD-40 linf 0.1": assay.PGD(0.1),
    "PGD-40 l2 1.0": assay.PGD(1.0, norm="l2"),
    "APGD-CE-40 linf 0.05": assay.APGD(0.05, steps=40),
    "APGD-CE-40 linf 12/255": assay.APGD(12 / 255, steps=40),
    "FMN-100 linf, within 0.1": assay.FMN(norm="linf", eps=0.1),
    "DDN-100 l2, within 1.0": assay.DDN(eps=1.0),
    "Square-500 linf 0.1": assay.Square(0.1, queries=500),
}


def row(name, model, title, attack, x, y):
    outcome = assay.attack(model, x, y, attack)
    broken = outcome.status == int(assay.Status.BROKEN)
    rounded = (outcome.images[broken] * 255).round() / 255
    geometry = assay.core.combinators.unfold(attack)[0].attack.geometry
    rows = assay.core.rows.Rows(x[broken], None, None)
    inside = geometry.size(rounded - x[broken], rows) <= 1 + assay.core.outcome.TOLERANCE
    fools = model(rounded).argmax(1) != y[broken]
    with tempfile.TemporaryDirectory() as folder:
        exported = assay.export_png(model, outcome, Path(folder) / "png", attack)
    n = len(x)
    return {
        "network": name,
        "attack": title,
        "robust accuracy, %": round(100 * outcome.robust_accuracy, 2),
        "with rounded images, %": round(100 * (outcome.robust_accuracy + int((~(fools & inside)).sum()) / n), 2),
        "with exported files, %": round(100 * exported.images.robust_accuracy, 2),
        "files": len(exported.files),
        "files that fool the model when read": len(exported.files),
        "broken samples without a file": len(exported.images.lost),
    }


def main():
    data = fashion("test", COUNT)
    networks = models("plain", "pgd-at-bn", "pgd-at")
    rows = [
        row(name, model, title, attack, data.images(), data.y)
        for name, model in networks.items()
        for title, attack in ATTACKS.items()
    ]
    record("eight_bit", {"images": COUNT, "rows": rows})


if __name__ == "__main__":
    main()

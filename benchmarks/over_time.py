"""Paper 001 at a small scale: what adversarial training does to perturbations, epoch by epoch, beside its numbers.

A small network on Fashion-MNIST begins from a clean one, as the paper's do, and is trained on adversarial images alone
(sigma = 0), by FGSM and by BIM; then every diagnostic of a trail is asked. The page is diagnosis.html in the cache.
"""

import argparse
import json

from common import CACHE, fashion, merged, record

from assay.diagnostics import load_trail
from assay.diagnostics.context import DiagnosticContext
from assay.runs.diagnose import diagnose
from assay.training import Recipe, train
from assay.util.progress import Reporter

EPS, EPOCHS = 0.05, 12
INNER = {"BIM": "bim:steps=10", "FGSM": "fgsm"}
QUESTIONS = ("learning", "stability", "sharedness", "universality", "destruction", "detectability", "transfer")
PAPER = {
    "learning": "BIM on test images: about 0 to above 40 % (CIFAR-10, ResNet, eps 4/255)",
    "stability": "most inputs robust, some stable, few oscillating",
    "sharedness": "fools 6.3 % of other inputs before, 1.1 % after an epoch, 0.8 % after 15, 0.5 % at the end; "
    "correlation -0.293",
    "universality": "12 % before, at least 80 % from epoch 3 on",
    "destruction": "rises for brightness and contrast; for blur it rises (CIFAR-10), or rises for small blur and falls "
    "slightly for strong (GTSRB); noise mixed",
    "detectability": "stays above 90 %",
    "transfer": "black-box attacks between epochs are far weaker than white-box ones",
}
"""Metzen, 2018: what the paper reports; of CIFAR-10 where nothing else is said."""


def summary(name, frame):
    """The numbers that a comparison needs, of a frame that may have hundreds of rows."""
    if name == "learning" or name == "sharedness":
        return [row for row in frame if row["epoch"] in (0, 1, 3, EPOCHS)]
    if name == "stability":
        kinds = [row["kind"] for row in frame]
        return [{"kind": kind, "share": kinds.count(kind) / len(kinds)} for kind in dict.fromkeys(kinds)]
    if name == "universality":
        return [row for row in frame if row["tried at"] in (0, 1, 3, EPOCHS) and row["made at"] in (0, row["tried at"])]
    if name == "destruction":
        return [row for row in frame if row["epoch"] in (0, EPOCHS)]
    if name == "transfer":
        return [row for row in frame if {row["made on"], row["tried on"]} <= {"epoch 0", f"epoch {EPOCHS}"}]
    return [row for row in frame if row["trained at"] in (0, row["tried at"], EPOCHS)]


def trail_of(inner, images, epochs):
    shared = {"arch": "tiny-cnn", "batch": 128, "rate": 1e-3}
    data = fashion("train", images)
    plain = train(data, Recipe(**shared, epochs=8), CACHE / "time-clean", progress=print)
    recipe = Recipe(
        **shared, objective="mixed:share=0", attack=INNER[inner], eps=EPS, epochs=epochs, start=str(plain.path)
    )
    train(data, recipe, CACHE / f"time-{inner}", trail=tuple(range(epochs + 1)), progress=print)
    return load_trail(CACHE / f"time-{inner}")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=20000)
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    parser.add_argument("--attacked", type=int, default=500)
    parser.add_argument("--others", type=int, default=2000)
    parser.add_argument("--only", nargs="*", default=list(INNER))
    parser.add_argument("--questions", nargs="*", default=list(QUESTIONS))
    parser.add_argument("--most", type=int, default=EPOCHS + 1, help="epochs that are asked about, evenly spread")
    parser.add_argument("--kept", action="store_true", help="record the answers of an earlier run as they are")
    arguments = parser.parse_args()
    for inner in arguments.only:
        trail = trail_of(inner, arguments.images, arguments.epochs)
        asked = trail.thinned(arguments.most)
        case = DiagnosticContext(
            asked,
            {},
            train=fashion("train", arguments.others),
            test=fashion("test", arguments.attacked),
            eps=EPS,
            updates=100,
        )
        folder = CACHE / f"time-{inner}-answers"
        names = arguments.questions
        if not arguments.kept:
            diagnose(case, names, folder, title=f"{inner} adversarial training over time", reporter=Reporter(print))
        found = {name: json.loads((folder / f"{name}.json").read_text()) for name in names}
        shared = {"attacked": arguments.attacked, "others": arguments.others, "epochs": asked.epochs}
        rows = [
            {
                "case": f"{inner}: {name}",
                **shared,
                "paper": PAPER[name],
                "verdict": answer["verdict"],
                "numbers": summary(name, answer["frame"]),
            }
            for name, answer in found.items()
        ]
        record("over_time", {"images": arguments.images, "eps": EPS, "rows": merged("over_time", rows, "case")})


if __name__ == "__main__":
    main()

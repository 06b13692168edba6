"""Paper 001 at a small scale: what adversarial training does to perturbations, epoch by epoch, beside its numbers.

A small network on Fashion-MNIST begins from a clean one, as the paper's do, and is trained on adversarial images alone
(sigma = 0), by FGSM and by BIM; then every diagnostic of a trail is asked. The page is diagnosis.html in the cache.
"""

import argparse
import json

from common import CACHE, fashion, merged, record

from assay.diagnostics import load_trail
from assay.diagnostics.case import Case
from assay.runs.diagnose import diagnose
from assay.training import Recipe, train

EPS, EPOCHS = 0.05, 12
INNER = {"BIM": "bim:steps=10", "FGSM": "fgsm"}
QUESTIONS = ("learning", "stability", "sharedness", "universality", "destruction", "detectability", "transfer")
PAPER = {
    "accuracy under its own universal perturbation": (12.0, 80.0),
    "of other inputs a perturbation fools": (6.3, 0.5),
    "log-log correlation of sharedness and stability": (None, -0.293),
    "detectability of BIM": (None, "above 90"),
}
"""CIFAR-10 and GTSRB: before adversarial training, and at its end; in per cent but for the correlation."""


def trail_of(inner, images, epochs):
    shared = {"arch": "tiny-cnn", "batch": 128, "rate": 1e-3}
    data = fashion("train", images)
    plain = train(data, Recipe(**shared, epochs=8), CACHE / "time-clean", progress=print)
    recipe = Recipe(**shared, objective="mixed:share=0", attack=INNER[inner], eps=EPS, epochs=epochs,
                    start=str(plain.path))  # fmt: skip
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
    arguments = parser.parse_args()
    for inner in arguments.only:
        trail = trail_of(inner, arguments.images, arguments.epochs)
        case = Case(trail, {}, train=fashion("train", arguments.others), test=fashion("test", arguments.attacked),
                    eps=EPS, updates=100)  # fmt: skip
        folder = CACHE / f"time-{inner}-answers"
        names = arguments.questions
        diagnose(case, names, folder, title=f"{inner} adversarial training over time", notice=print)
        found = {name: json.loads((folder / f"{name}.json").read_text()) for name in names}
        shared = {"attacked": arguments.attacked, "others": arguments.others}
        rows = [{"case": f"{inner}: {name}", **shared, "verdict": answer["verdict"], "frame": answer["frame"][:200]}
                for name, answer in found.items()]  # fmt: skip
        record("over_time", {"images": arguments.images, "eps": EPS, "paper": PAPER,
                             "rows": merged("over_time", rows, "case")})  # fmt: skip


if __name__ == "__main__":
    main()

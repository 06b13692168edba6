"""Paper 004 at a small scale on CIFAR-10: five attacks, two victims; tables 3, 4 and 5, and settings it never saw.

make signatures DATA="parquet:path/to/cifar10-{split}.parquet"
"""

import argparse
import json
from dataclasses import replace
from functools import partial

import torch
from common import CACHE, record

from assay.attacks.registry import make as make_attack
from assay.data import load as load_data
from assay.runs.signatures import SignatureConfig, learn_signatures
from assay.signatures import (
    SCENARIOS,
    Grid,
    Helpers,
    Plan,
    Setting,
    make_examples,
    restoration_table,
    settings,
    train_recogniser,
)
from assay.signatures.held_out import HeldOutSet
from assay.training import Recipe, train
from assay.util.progress import Reporter

VICTIMS = {"tiny-cnn": 12, "gtsrb-cnn": 12}
UNSEEN_VICTIM = ("strattack-cnn", 8)
UNSEEN = ("fgsm", "stadv:pixels=1", "square:queries=300", "sigma-zero:steps=100")
PAPER = {
    "recognised, per cent": {"image": 57.5, "truth": 94.2, "redrl": 94.2, "A": 90.6, "B": 92.6, "C": 93.5},
    "accuracy of ResNet-50 before and after G": {
        "clean": (94.0, 94.0),
        "deepfool": (7.4, 87.6),
        "pgd": (2.1, 90.9),
        "cw-l2": (0.1, 88.2),
        "cw-linf": (13.5, 85.0),
        "patch": (79.0, 93.3),
    },
}
"""CIFAR-10 whole, four victims, ResNet-18 as the recogniser, 100 epochs."""


def classifier(arch, epochs, data):
    recipe = Recipe(arch=arch, epochs=epochs, batch=64, rate=1e-3, schedule="cosine", flip=True)
    return train(data, recipe, CACHE / f"signature-{arch}", progress=print).model.requires_grad_(False)


def reconstruction(lesson, folder):
    """What each loss does for accuracy on reconstructed images, mean over victims and attacks."""
    train, test = (
        make_examples(lesson.victims, part, lesson.settings, out=folder / "examples")
        for part in (lesson.train, lesson.test)
    )
    found = {}
    for column in (name for name in lesson.columns if SCENARIOS[name]["sees"] == "redrl"):
        plan = replace(lesson.plan, **SCENARIOS[column])
        made = train_recogniser(train, plan, lesson.helpers, out=folder / f"recogniser-{column}.pt")
        answer = restoration_table(made, lesson.victims, test)
        found[column] = {
            "clean": round(100 * float(answer.after[:, 0].mean()), 1),
            "attacked": round(100 * float(answer.after[:, 1:].nanmean()), 1),
        }
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", required=True)
    parser.add_argument("--images", type=int, default=1200)
    parser.add_argument("--tests", type=int, default=300)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--columns", nargs="*", default=list(SCENARIOS))
    parser.add_argument("--recogniser", default="tiny-cnn")
    parser.add_argument("--width", type=int, default=16)
    parser.add_argument("--blocks", type=int, default=3)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--part", action="store_true", help="train the columns, record nothing")
    arguments = parser.parse_args()
    whole = load_data(arguments.data, split="train", limit=20000)
    victims = {arch: classifier(arch, epochs, whole) for arch, epochs in VICTIMS.items()}
    other = {UNSEEN_VICTIM[0]: classifier(*UNSEEN_VICTIM, whole)}
    size, short = 32, {"steps": 40, "carlini_steps": 200}
    held = [
        HeldOutSet(
            "Unseen budgets 6/255 and 12/255",
            victims,
            settings(size, Grid(eps=(6 / 255, 12 / 255), **short), ("pgd", "cw-linf", "patch")),
        ),
        HeldOutSet("An unseen victim, strattack-cnn", other, settings(size, Grid(**short))),
        *(
            HeldOutSet(
                f"An unseen attack, {spec}", victims, [Setting(spec.partition(":")[0], make_attack(spec, eps=8 / 255))]
            )
            for spec in UNSEEN
        ),
    ]
    lesson = SignatureConfig(
        victims,
        load_data(arguments.data, split="train", limit=arguments.images),
        load_data(arguments.data, split="test", limit=arguments.tests),
        settings(size, Grid(**short)),
        helpers=Helpers(victims["tiny-cnn"], victims["gtsrb-cnn"]),
        extractor="gtsrb-cnn, third convolution",
        plan=Plan(
            epochs=arguments.epochs,
            warmup=max(2, arguments.epochs // 10),
            rate=1e-3,
            arch=arguments.recogniser,
            width=arguments.width,
            blocks=arguments.blocks,
        ),
        columns=arguments.columns,
        held_out=() if arguments.part else held,
        device=arguments.device,
    )
    folder = CACHE / "signatures"
    learn_signatures(lesson, folder, reporter=Reporter(partial(print, flush=True), work=partial(print, flush=True)))
    if not arguments.part:
        tables = json.loads((folder / "tables.json").read_text())
        rows = [{"table": name, **found} for name, found in tables.items()]
        back = reconstruction(lesson, folder)
        record(
            "signatures",
            {
                "images": arguments.images,
                "tests": arguments.tests,
                "epochs": arguments.epochs,
                "steps": short,
                "paper": PAPER,
                "rows": rows,
                "reconstruction by losses": back,
            },
        )


if __name__ == "__main__":
    torch.manual_seed(0)
    main()

"""What closes the gap between recognising an attack by the image alone and by its true perturbation, on CIFAR-10.

python redrl.py --data "parquet:path/to/cifar10-{split}.parquet"                  # one factor at a time
python redrl.py --data … --only enlarged "enlarged, more data" --threads 2        # these anew, the others as recorded

The same command resumes. Each case trains three recognisers (by the image, by the true perturbation, and with a
reconstructor) on the same examples and tries them on images that none has seen.
"""

import argparse
import sys
import time
from dataclasses import dataclass, field, replace
from functools import partial

import torch
from common import CACHE, merged, record

from assay.data import load as load_data
from assay.data.dataset import resized
from assay.signatures import (
    KINDS,
    SCENARIOS,
    Grid,
    Helpers,
    Plan,
    calibrate,
    innocence,
    make_examples,
    recognition_table,
    settings,
    train_recogniser,
)
from assay.signatures.held_out import unseen_attacks
from assay.training import Recipe, train

MEANS = ("total", "mean of kinds", "mean of settings", "attacks that still fool")
INPUTS = ("image", "truth", "redrl")
BASE = Plan(epochs=20, warmup=2, rate=1e-3, arch="tiny-cnn", width=32, blocks=4, precision="bfloat16")


@dataclass(frozen=True)
class Case:
    """One way to train.

    Attributes:
        sizes: to which images are resized, one after the other.
        images: to learn from.
        plan: changes of the plan.
        grid: changes of the settings.
        unseen: attacks that are tried and not learned.
        columns: what is recognised by; all three for the share of the gap that is closed.
    """

    sizes: tuple[int, ...] = ()
    images: int = 500
    plan: dict = field(default_factory=dict)
    grid: dict = field(default_factory=dict)
    unseen: tuple[str, ...] = ()
    columns: tuple[str, ...] = INPUTS


UNLEARNED = ("square:queries=500", "jsma:eps=60", "stadv:steps=40", "strattack:steps=60,rounds=3", "ead:steps=100")
"""Attacks of other kinds: by queries, few values, no norm, groups of pixels, l1."""

CASES = {
    "as a base": Case(),
    "enlarged": Case(sizes=(64,)),
    "band-limited": Case(sizes=(16, 32)),
    "more data": Case(images=1500),
    "larger recogniser": Case(plan={"arch": "resnet18"}),
    "larger reconstructor": Case(plan={"width": 64, "blocks": 8}),
    "longer": Case(plan={"epochs": 60, "warmup": 6}),
    "rounded down": Case(grid={"rounding": "down"}),
    "float32": Case(plan={"precision": "float32"}),
    "with innocent images": Case(grid={"innocent": True}),
    "without features": Case(plan={"feature": 0.0}),
    "without classifier": Case(plan={"classification": 0.0}),
    "enlarged, larger recogniser": Case(sizes=(64,), plan={"arch": "resnet18"}),
    "identifier, native": Case(
        images=1200, plan={"arch": "resnet18"}, grid={"innocent": True}, unseen=UNLEARNED, columns=("redrl",)
    ),
    "identifier, enlarged": Case(
        sizes=(64,),
        images=1200,
        plan={"arch": "resnet18"},
        grid={"innocent": True},
        unseen=UNLEARNED,
        columns=("redrl",),
    ),
}
"""The first is what each of the others changes in one way; the last three change several."""


def sized(data, sizes):
    for size in sizes:
        data = resized(data, size)
    return data


def victims_of(case, data):
    """Two small networks of other weights, trained on images of the case's size."""
    name = "-".join(map(str, case.sizes)) or "32"
    recipe = Recipe(arch="tiny-cnn", epochs=4, batch=64, rate=1e-3, schedule="cosine", flip=True)
    whole = sized(load_data(data, split="train", limit=10_000), case.sizes)
    return {
        f"victim {seed}": train(whole, replace(recipe, seed=seed), CACHE / f"redrl-victim-{name}-{seed}")
        .model.eval()
        .requires_grad_(False)
        for seed in (0, 1)
    }


def tell(what, done, of, loss):
    print(f"{what}: epoch {done} of {of}, loss {loss:.3f}", file=sys.stderr, flush=True)


def measured(name, case, data, tests):
    """One row of the table."""
    victims = victims_of(case, data)
    grid = Grid(**{"steps": 40, "carlini_steps": 200, "innocent": False, **case.grid})
    size = case.sizes[-1] if case.sizes else 32
    parts = [
        make_examples(
            victims,
            sized(load_data(data, split=split, limit=limit), case.sizes),
            settings(size, grid),
            out=CACHE / "redrl-examples",
            rounding=grid.rounding,
            innocent=grid.innocent,
        )
        for split, limit in (("train", case.images), ("test", tests))
    ]
    learned, tried = parts
    unseen = unseen_attacks(case.unseen, tuple(KINDS), grid.eps[-1], victims)
    helpers = Helpers(victims["victim 0"], victims["victim 1"])
    plan, recognised, seconds = replace(BASE, **case.plan), {}, {}
    for column in case.columns:
        began = time.perf_counter()
        recognition = train_recogniser(
            learned,
            replace(plan, **SCENARIOS[column]),
            helpers,
            out=CACHE / f"redrl-{name.replace(' ', '-').replace(',', '')}-{column}.pt",
            progress=partial(tell, f"{name}, {column}"),
        )
        share = recognition_table({column: recognition}, tried).share[column]
        recognised[column] = {key: round(100 * value, 1) for key, value in share.items()}
        seconds[column] = round(time.perf_counter() - began)
    row = {
        "case": name,
        "examples": len(learned),
        "tried on": len(tried),
        "recognised, per cent": recognised,
        "closed, per cent": {key: closed(recognised, key) for key in MEANS if len(recognised) == len(INPUTS)},
        "seconds": seconds,
        "threads": torch.get_num_threads(),
    }
    identifier = calibrate(recognition, learned, tried)
    counts = identifier.confusion
    row["known called unknown, per cent"] = percent(counts[:, -1].sum() / counts.sum())
    if grid.innocent:
        innocents = innocence(identifier, tried)
        row["innocent images accused, per cent"] = {k: percent(v) for k, v in innocents.accused.items()}
        row["attacked images called clean, per cent"] = percent(counts[1:, 0].sum() / counts[1:].sum())
    if unseen:
        row["unknown attacks called unknown, per cent"] = {
            part.about: called_unknown(identifier, part, data, tests, case) for part in unseen
        }
    return row


def percent(share):
    return round(100 * float(share), 1)


def called_unknown(identifier, part, data, tests, case):
    """The share of an unseen attack's images that the identifier calls unknown."""
    examples = make_examples(
        part.victims,
        sized(load_data(data, split="test", limit=tests), case.sizes),
        part.settings,
        out=CACHE / "redrl-examples",
        kinds=(*KINDS, part.settings[0].kind),
    )
    counts = identifier.confusion_of(examples.take((examples.kind > 0).nonzero().squeeze(1)))
    return percent(counts[:, -1].sum() / counts.sum())


def closed(recognised, key):
    """The share of the way from the image alone to the true perturbation."""
    image, truth, redrl = (recognised[column][key] for column in ("image", "truth", "redrl"))
    return round(100 * (redrl - image) / (truth - image), 1) if truth > image else None


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", required=True)
    parser.add_argument("--tests", type=int, default=300)
    parser.add_argument("--only", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    for name in arguments.only:
        row = measured(name, CASES[name], arguments.data, arguments.tests)
        print(row, file=sys.stderr)
        rows = merged("redrl", [row], "case")
        order = list(CASES)
        record("redrl", {"tests": arguments.tests, "rows": sorted(rows, key=lambda r: order.index(r["case"]))})


if __name__ == "__main__":
    torch.manual_seed(0)
    main()

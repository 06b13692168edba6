"""What the gradient past a change of the input is worth: the identity's (BPDA as published) or the one it declares.

python bpda.py --data "parquet:path/to/cifar10-{split}.parquet"

APGD on a small network behind JPEG compression or a median filter; how many images survive of those that are classified
correctly.
"""

import argparse

import torch
from common import record
from redrl import CASES, victims_of

import assay
from assay.data import load as load_data
from assay.defences import Jpeg, Median, Transformed

CHANGES = {"JPEG, quality 50": Jpeg(50), "JPEG, quality 75": Jpeg(75), "JPEG, quality 90": Jpeg(90)}
CHANGES |= {"median of 2 × 2": Median(2), "median of 3 × 3": Median(3)}
BUDGETS = (2, 4)
"""In 255ths."""


def survivors(defended, x, y, eps, steps):
    """How many images APGD leaves."""
    attack, surrogate = assay.APGD(eps, steps=steps), defended.adaptation().surrogate
    return int(assay.attack(defended, x, y, attack, surrogate=surrogate, preflight=False).robust.sum())


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", required=True)
    parser.add_argument("-n", type=int, default=128)
    parser.add_argument("--steps", type=int, default=30)
    arguments = parser.parse_args()
    model = victims_of(CASES["as a base"], arguments.data)["victim 0"]
    test = load_data(arguments.data, split="test", limit=arguments.n)
    x, y, rows = test.images(), test.y, []
    for name, change in CHANGES.items():
        declared, identity = (Transformed(model, change, through=through) for through in (None, False))
        with torch.no_grad():
            row = {"change": name, "right": int((declared(x).argmax(1) == y).sum())}
        for budget in BUDGETS:
            row[f"identity, {budget}/255"] = survivors(identity, x, y, budget / 255, arguments.steps)
            row[f"declared, {budget}/255"] = survivors(declared, x, y, budget / 255, arguments.steps)
        rows.append(row)
        print(row, flush=True)
    record("bpda", {"n": arguments.n, "steps": arguments.steps, "rows": rows})


if __name__ == "__main__":
    torch.manual_seed(0)
    main()

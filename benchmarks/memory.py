"""Peak memory of StrAttack with overlapping groups (2 × 2 pixels, one apart) beside that of full copies for each group.

Each size runs in a process of its own, on one image and a small network; the peak is what the kernel counted.
"""

import argparse
import json
import resource
import subprocess
import sys

import torch
from common import record

import assay


def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024  # MiB on Linux


def one(side, steps):
    torch.manual_seed(0)
    model = torch.nn.Sequential(
        torch.nn.Conv2d(3, 4, 3, stride=4),
        torch.nn.ReLU(),
        torch.nn.AdaptiveAvgPool2d(1),
        torch.nn.Flatten(),
        torch.nn.Linear(4, 5),
    ).eval()
    x = torch.rand(1, 3, side, side)
    y = model(x).argmax(1)
    attack = assay.StrAttack(group=2, stride=1, steps=steps, rounds=1, refine=0)
    assay.attack(model, torch.rand(1, 3, 16, 16), y, attack, preflight=False)  # libraries are loaded, pools filled
    before = peak()
    assay.attack(model, x, y, attack, preflight=False)
    return {"side": side, "groups": (side - 1) ** 2, "before": round(before, 1), "after": round(peak(), 1)}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--side", type=int)
    arguments = parser.parse_args()
    if arguments.side:
        print(json.dumps(one(arguments.side, 20)))
        return
    rows = []
    for side in (64, 224):
        done = subprocess.run(
            [sys.executable, __file__, "--side", str(side)], capture_output=True, text=True, check=True
        )
        row = json.loads(done.stdout.splitlines()[-1])
        row["MiB"] = round(row.pop("after") - row.pop("before"), 1)
        row["full_copies_MiB"] = round(2 * row["groups"] * 3 * side * side * 4 / 2**20, 1)  # y and v, float32
        rows.append(row)
    record("memory", {"attack": "StrAttack 2×2 stride 1", "rows": rows})


if __name__ == "__main__":
    main()

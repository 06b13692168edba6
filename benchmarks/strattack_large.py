"""StrAttack at ImageNet's size, with the paper's groups of 13 × 13 pixels, beside C&W: sizes, memory and time.

EfficientNet-Lite0 and the sample images of foolbox, both from their wheels; random targets (the paper's average case).
Each attack runs in a process of its own; memory is the peak that the kernel counted, beyond that of a forward and a
backward pass over the same batch.
"""

import argparse
import json
import resource
import subprocess
import sys
import time

import torch
from common import merged, record
from interpretability import imagenet
from strattack import norms

import assay

ATTACKS = {
    "none": None,
    "StrAttack": assay.StrAttack(group=13, stride=13, steps=100, rounds=6),
    "StrAttack, unrefined": assay.StrAttack(group=13, stride=13, steps=100, rounds=6, refine=0),
    "C&W l2": assay.CarliniWagnerL2(steps=200, rounds=6, constant=1.0),
}
PAPER = {
    "StrAttack": {"success": 1.0, "l0": 52328, "l1": 152, "l2": 1.06, "linf": 0.075},
    "C&W l2": {"success": 1.0, "l0": 263140, "l1": 198, "l2": 0.679, "linf": 0.03},
}
"""Table 1, average case: Inception v3 at 299 × 299."""


def measured(name, count):
    """The row of one attack, in this process."""
    model, x, y = imagenet(count)
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    target = (y + torch.randint(1, 1000, y.shape, generator=torch.Generator().manual_seed(0))) % 1000
    leaf = x.clone().requires_grad_()
    torch.autograd.grad(torch.nn.functional.cross_entropy(model(leaf), target), leaf)
    row = {"attack": name, "n": len(y), "threads": torch.get_num_threads()}
    if ATTACKS[name] is not None:
        began = time.perf_counter()
        outcome = assay.attack(model, x, y, ATTACKS[name], target=target, preflight=False)
        row["seconds"] = round(time.perf_counter() - began, 1)
        with torch.no_grad():
            reached = model(outcome.images).argmax(1) == target
        row |= {"success": reached.float().mean().item(), **norms(x, outcome.images, reached)}
        row["passes"] = (outcome.forwards + outcome.backwards).float().mean().item()
    return row | {"peak MiB": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)}


def apart(name, count):
    """The same in a process of its own."""
    command = [sys.executable, __file__, "-n", str(count), "--row", name]
    printed = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    return json.loads(printed.splitlines()[-1])  # the network says that it was loaded


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-n", type=int, default=10)
    parser.add_argument("--only", nargs="+", choices=ATTACKS, default=list(ATTACKS), help="these; others as recorded")
    parser.add_argument("--row", choices=ATTACKS, help="print the row of one attack, and record nothing")
    arguments = parser.parse_args()
    if arguments.row:
        print(json.dumps(measured(arguments.row, arguments.n)))
        return
    bare = apart("none", arguments.n)["peak MiB"]
    for name in arguments.only:
        if name == "none":
            continue
        row = apart(name, arguments.n)
        row["MiB beyond one pass"] = row.pop("peak MiB") - bare
        print(row, flush=True)
        rows = merged("strattack-imagenet", [row], "attack")
        record("strattack-imagenet", {"paper": PAPER, "case": "average", "rows": rows})


if __name__ == "__main__":
    main()

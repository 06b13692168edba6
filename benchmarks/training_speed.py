"""PGD adversarial training beside loops written out: the inner maximisation of a batch, and an epoch.

MAIR is not on the package index; its inner attack is torchattacks' PGD, which stands in for it where installed.
"""

import argparse
import importlib.util
import statistics
import tempfile
import time
import warnings

import torch
from common import interleaved, record
from torch.nn import functional as F

import assay
from assay.data import load
from assay.models import build
from assay.training import Recipe, train

EPS, STEPS, BATCH = 8 / 255, 10, 128


def bare(model, x, y):
    """Random start, ten signed steps, projection: nothing else."""
    model.eval()
    for p in model.parameters():
        p.requires_grad_(False)
    z = (x + torch.empty_like(x).uniform_(-EPS, EPS)).clamp(0, 1)
    for _ in range(STEPS):
        z.requires_grad_()
        (grad,) = torch.autograd.grad(F.cross_entropy(model(z), y), z)
        with torch.no_grad():
            z = z + 2.5 * EPS / STEPS * grad.sign()
            z = torch.min(torch.max(z, x - EPS), x + EPS).clamp(0, 1)
    for p in model.parameters():
        p.requires_grad_(True)
    model.train()
    return z.detach()


def plain_epoch(arch, data, attack):
    """An epoch of a script."""
    torch.manual_seed(0)
    model = network(arch)
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-3)
    model.train()
    for index in torch.randperm(len(data)).split(BATCH):
        x, y = data.images(index), data.y[index]
        loss = F.cross_entropy(model(attack(model, x, y)), y)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
    return model


def torchattacks_pgd(model, x, y):
    import torchattacks

    attack = torchattacks.PGD(model, eps=EPS, alpha=2.5 * EPS / STEPS, steps=STEPS)
    return attack(x, y)


def network(arch):
    return build(arch, channels=3, classes=8, size=32)


def ours(arch, data):
    with tempfile.TemporaryDirectory() as folder:
        recipe = Recipe(arch=arch, objective="pgd-at", eps=EPS, attack_steps=STEPS, epochs=1, batch=BATCH)
        return train(data, recipe, folder).history[-1].seconds


def measured(arch, count, rounds):
    data = load(f"scenes:size=32,count={count}", split="train")
    model, x, y = network(arch), data.images(slice(0, BATCH)), data.y[:BATCH]
    attack = assay.PGD(EPS, steps=STEPS)
    inner = {"assay": lambda: assay.perturb(model, x, y, attack), "bare": lambda: bare(model, x, y)}
    found, _ = interleaved(inner, 4 * rounds)
    epochs = {"assay": lambda: ours(arch, data), "plain": lambda: plain_epoch(arch, data, bare)}
    if importlib.util.find_spec("torchattacks"):
        epochs["torchattacks"] = lambda: plain_epoch(arch, data, torchattacks_pgd)
    times = {name: [] for name in epochs}
    for _ in range(rounds):
        for name, job in epochs.items():
            began = time.perf_counter()
            result = job()
            times[name].append(result if name == "assay" else time.perf_counter() - began)
    return {
        "arch": arch,
        "images": count,
        "inner_loop": round(min(found["assay"]) / min(found["bare"]), 3),
        "inner_loop_median": round(statistics.median(found["assay"]) / statistics.median(found["bare"]), 3),
        **{f"epoch_of_{name}": round(min(times["assay"]) / min(times[name]), 3) for name in times if name != "assay"},
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=1280)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    rows = []
    small = ("tiny-cnn", "strattack-cnn")
    for arch in (*small, "preactresnet18"):
        count, rounds = (arguments.images, arguments.rounds) if arch in small else (16, 1)
        rows.append(measured(arch, count, rounds))
        print(rows[-1], flush=True)
    record("training_speed", {"eps": EPS, "steps": STEPS, "batch": BATCH, "rows": rows})


if __name__ == "__main__":
    main()

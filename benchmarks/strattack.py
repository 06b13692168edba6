"""StrAttack beside Carlini & Wagner's l2 attack and adv-lib's StrAttack: targeted, over all target labels.

On the network of paper 002 (four convolutions). ``--data`` takes any source of images; the paper has MNIST, CIFAR-10.
"""

import argparse
import time
import warnings

import torch
from common import CACHE, FASHION, import_adv_lib, merged, record

import assay
from assay.data import load as load_data
from assay.parts.perturbation import Tanh
from assay.training import Recipe, train


def norms(x, images, reached):
    delta = (images - x)[reached].double().flatten(1)
    if not len(delta):
        return {}
    return {
        "l0": (delta != 0).sum(1).double().mean().item(),
        "l1": delta.abs().sum(1).mean().item(),
        "l2": delta.norm(dim=1).mean().item(),
        "linf": delta.abs().amax(1).mean().item(),
    }


def refined(name, delta, unrefined):
    """The share of images that the refinement reached with fewer values than the search alone (in the paper 73 %)."""
    base, _, last = name.rpartition(", ")
    changed = (delta != 0).flatten(1).sum(1)
    if last == "unrefined":
        unrefined[base] = changed
    before = unrefined.get(name)
    return {} if before is None else {"refined": (changed < before).double().mean().item()}


def ours(model, x, y, target, attack):
    began = time.perf_counter()
    outcome = assay.attack(model, x, y, attack, target=target, preflight=False)
    seconds = time.perf_counter() - began
    passes = (outcome.forwards + outcome.backwards).float().mean().item()
    return outcome.images, seconds, passes


def theirs(model, x, y, target):
    """With its own defaults."""
    attacks, _ = import_adv_lib()
    began = time.perf_counter()
    images = attacks.str_attack(model, x, target, targeted=True)
    return images, time.perf_counter() - began, None


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", default=FASHION)
    parser.add_argument("--name", default="strattack")
    parser.add_argument("-n", type=int, default=48)
    parser.add_argument("--peer-n", type=int, default=16)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--only", default="", help="part of a name")
    parser.add_argument("--ours", action="store_true", help="without the other library, whose row is kept")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    recipe = Recipe(arch="strattack-cnn", epochs=arguments.epochs, batch=128, rate=1e-3)
    model = train(load_data(arguments.data, split="train"), recipe, CACHE / arguments.name).model.eval()
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    test = load_data(arguments.data, split="test", limit=2 * arguments.n)
    x, y = test.images(), test.y
    with torch.no_grad():
        right = model(x).argmax(1) == y
    x, y = x[right][: arguments.n], y[right][: arguments.n]
    target = (y + torch.randint(1, 10, y.shape, generator=torch.Generator().manual_seed(0))) % 10
    first = f"first {arguments.peer_n}"
    jobs = {
        "StrAttack, unrefined": (assay.StrAttack(refine=0), len(y)),
        "StrAttack": (assay.StrAttack(), len(y)),
        "StrAttack, ρ = 1, τ = 2, unrefined": (assay.StrAttack(rho=1.0, tau=2.0, refine=0), len(y)),
        "StrAttack, ρ = 1, τ = 2": (assay.StrAttack(rho=1.0, tau=2.0), len(y)),  # the paper's
        "StrAttack, ρ = 2, τ = 2": (assay.StrAttack(rho=2.0, tau=2.0), len(y)),
        "StrAttack, ρ = 5, τ = 2": (assay.StrAttack(tau=2.0), len(y)),
        "StrAttack, ρ = 1, τ = 1.6": (assay.StrAttack(rho=1.0), len(y)),
        "StrAttack τ = 0.5": (assay.StrAttack(tau=0.5), len(y)),
        "StrAttack, overlap": (assay.StrAttack(group=3), len(y)),
        "StrAttack, overlap, full copies": (assay.StrAttack(group=3, consensus=False), len(y)),
        "C&W l2, 9×200": (assay.CarliniWagnerL2(200), len(y)),
        "C&W l2, 9×200, tanh as published": (assay.CarliniWagnerL2(200, variable=Tanh()), len(y)),
        f"StrAttack, {first}": (assay.StrAttack(), arguments.peer_n),
        f"adv-lib's StrAttack, {first}": (None, arguments.peer_n),
    }
    rows, unrefined = [], {}
    for name, (attack, count) in jobs.items():
        if arguments.only not in name or (arguments.ours and attack is None):
            continue
        few = slice(0, count)
        problem = model, x[few], y[few], target[few]
        images, seconds, passes = theirs(*problem) if attack is None else ours(*problem, attack)
        with torch.no_grad():
            reached = model(images).argmax(1) == target[few]
        rows.append(
            {
                "attack": name,
                "success": reached.float().mean().item(),
                **norms(x[few], images, reached),
                **refined(name, images - x[few], unrefined),
                "seconds": round(seconds, 2),
                "passes": passes,
            }
        )
        print(rows[-1], flush=True)
    rows = merged(arguments.name, rows, "attack")
    record(arguments.name, {"data": arguments.data.rpartition("/")[2], "n": len(y), "case": "average", "rows": rows})


if __name__ == "__main__":
    main()

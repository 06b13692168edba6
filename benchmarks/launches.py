"""Operators launched and waits of the host a step, ours beside the peers', on a simulated device.

What a GPU pays for small batches is the number of operators, whatever they compute. They are counted on the device
of ``tests/simulated``, with a network of three layers and 64 rows of which none is ever broken: a call with 40 steps
less one with 20, divided by 20. The bare loop is one forward and one backward pass a step and nothing else.
"""

import argparse
import sys
import warnings

import torch
from common import HERE, import_adv_lib, record
from torch import nn

import assay

sys.path.insert(0, str(HERE.parent / "tests"))
from simulated.device import counting, install

EPS, STEPS = 1e-6, (20, 40)
"""So small a budget that nothing breaks, and all rows go on to the end."""


def ours():
    """From a number of steps to an attack of ours."""
    return {
        "PGD": lambda steps: assay.PGD(EPS, steps=steps),
        "MIM": lambda steps: assay.MIM(EPS, steps=steps),
        "APGD": lambda steps: assay.APGD(EPS, steps=steps),
        "DDN": lambda steps: assay.DDN(steps=steps),
        "FMN l2": lambda steps: assay.FMN(steps=steps, norm="l2"),
        "FAB": lambda steps: assay.FAB(EPS, steps=steps, targets=1),
        "Square": lambda steps: assay.Square(EPS, queries=steps),
    }


def peers(model, x, y):
    """For each attack the peers that have it: from a number of steps to a call."""
    import torchattacks
    from pyautoattack.fab_pt import FABAttack_PT
    from pyautoattack.square import SquareAttack

    adv_lib, _ = import_adv_lib()
    fmn, ddn, apgd = adv_lib.fmn, adv_lib.ddn, adv_lib.apgd

    def fab(steps):
        attack = FABAttack_PT(model, n_restarts=1, n_iter=steps, eps=EPS, norm="Linf", device=x.device, verbose=False)
        attack.targeted, attack.n_target_classes = True, 1
        return lambda: attack.perturb(x, y)

    def square(steps):
        attack = SquareAttack(model, n_queries=steps, eps=EPS, norm="Linf", device=x.device, verbose=False, seed=0)
        return lambda: attack.perturb(x, y)

    return {
        "PGD": {
            "torchattacks": lambda steps: lambda: torchattacks.PGD(model, eps=EPS, alpha=EPS / 4, steps=steps)(x, y),
            "adv-lib": lambda steps: lambda: adv_lib.pgd_linf(model, x, y, **{"ε": EPS}, steps=steps),
        },
        "MIM": {"torchattacks": lambda steps: lambda: torchattacks.MIFGSM(model, eps=EPS, steps=steps)(x, y)},
        "APGD": {
            "torchattacks": lambda steps: lambda: torchattacks.APGD(model, eps=EPS, steps=steps)(x, y),
            "adv-lib": lambda steps: lambda: apgd(model, x, y, eps=EPS, norm=float("inf"), n_iter=steps),
        },
        "DDN": {"adv-lib": lambda steps: lambda: ddn(model, x, y, steps=steps)},
        "FMN l2": {"adv-lib": lambda steps: lambda: fmn(model, x, y, norm=2, steps=steps)},
        "FAB": {"AutoAttack": fab},
        "Square": {"AutoAttack": square},
    }


def a_step(call_of):
    """Operators and waits a step of what ``call_of(steps)`` runs."""
    counted = []
    for steps in STEPS:
        call = call_of(steps)
        with counting() as counts:
            call()
        counted.append((sum(counts.launches.values()), sum(counts.waits.values())))
    apart = STEPS[1] - STEPS[0]
    return {name: round((b - a) / apart, 2) for name, a, b in zip(("operators", "waits"), *counted, strict=True)}


def bare(model, x, y):
    def call_of(steps):
        def call():
            for _ in range(steps):
                leaf = x.clone().requires_grad_()
                torch.autograd.grad(nn.functional.cross_entropy(model(leaf), y), leaf)

        return call

    return a_step(call_of)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="+", default=[])
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    device = install()
    torch.manual_seed(0)
    layers = (nn.Flatten(), nn.Linear(3 * 64, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 10))
    model = nn.Sequential(*layers)
    x = 0.2 + 0.6 * torch.rand(64, 3, 8, 8)
    y = model(x).argmax(1)
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    model, there, labels = model.to(device).eval(), x.to(device), y.to(device)
    rows = [{"attack": "bare loop", "assay": bare(model, there, labels)}]
    beside = peers(model, there, labels)
    for name, make in ours().items():
        if arguments.only and name not in arguments.only:
            continue

        def call_of(steps, make=make):
            return lambda: assay.attack(model, there, labels, make(steps), preflight=False, slots=64)

        row = {"attack": name, "assay": a_step(call_of)}
        for peer, peer_call in beside[name].items():
            try:
                row[peer] = a_step(peer_call)
            except Exception as error:
                row[peer] = f"{type(error).__name__}: {error}"
        counted = [v["operators"] for k, v in row.items() if k not in ("attack", "assay") and isinstance(v, dict)]
        if counted:
            row["of_the_leanest"] = round(row["assay"]["operators"] / min(counted), 2)
        rows.append(row)
        print(row, flush=True)
    if not arguments.only:
        record("launches", {"steps": STEPS, "rows": rows})


if __name__ == "__main__":
    main()

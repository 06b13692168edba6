"""`Standard` and `Fast` beside the AutoAttack package on a ladder of networks: who breaks what, wall time, passes.

The same images and budget, in one process, one after the other. Passes are counted at the model: images that went
forward, and twice those that went backward. Networks: `ladder.py`. Beside it what
`standard`'s passes take alone: as many forward and backward, bare, in batches of as many images as survive.
"""

import argparse
import dataclasses
import time
import warnings

import torch
from common import merged, record
from ladder import images, network, rungs
from torch import nn

import assay
from assay.core.memory_format import channels_last


class Counted(nn.Module):
    """Counts the images that pass forward and backward."""

    def __init__(self, model):
        super().__init__()
        self.model, self.passes = model, 0

    def forward(self, x):
        self.passes += len(x)
        if x.requires_grad:
            x.register_hook(self._backward)
        return self.model(x)

    def _backward(self, grad):
        self.passes += 2 * len(grad)


def timed(model, work):
    """What the work says is robust, its seconds and its passes an image."""
    model.passes, began = 0, time.perf_counter()
    robust = work()
    numbers = {"seconds": round(time.perf_counter() - began, 2), "passes": round(model.passes / len(robust), 1)}
    return robust, {"robust": int(robust.sum()), **numbers}


def autoattack(model, x, y, rung):
    from pyautoattack import AutoAttack

    norm = {"linf": "Linf", "l2": "L2"}[rung.norm]
    adversary = AutoAttack(model, norm=norm, eps=rung.eps, version="standard", device="cpu")
    adversary.apgd_targeted.n_target_classes = adversary.fab.n_target_classes = 9
    adversarial, _ = adversary.run_standard_evaluation(x, y, batch_size=256)
    with torch.no_grad():
        return model(adversarial).argmax(1) == y


def ours(model, x, y, suite, spent):
    def run():
        outcome = assay.attack(model, x, y, suite, preflight=False)
        spent.update(forwards=int(outcome.forwards.sum()), backwards=int(outcome.backwards.sum()))
        return outcome.robust

    return run


def bare(model, x, y, forwards, backwards, repeats=20):
    """Seconds of so many passes on batches of these images, without any attack: the fastest of many."""
    model = model.model.eval()
    for parameter in model.parameters():
        parameter.requires_grad_(False)

    def forward():
        with torch.no_grad():
            model(x)

    def both():
        leaf = x.clone().requires_grad_()
        torch.autograd.grad(nn.functional.cross_entropy(model(leaf), y), leaf)

    totals = []
    for wanted in (False, True):  # in the layout in which they are faster
        with channels_last(model, wanted=wanted):
            one, two = (min(_seconds(work) for _ in range(repeats)) / len(x) for work in (forward, both))
        totals.append(forwards * one + backwards * (two - one))
    return min(totals)


def _seconds(work):
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-n", type=int, default=64)
    parser.add_argument("--only", nargs="+", default=[])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--scale", type=float, default=1, help="of the budgets, so that fewer or more samples survive")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(arguments.threads)
    rows = []
    for rung in rungs():
        if arguments.only and rung.name not in arguments.only:
            continue
        model, rung = Counted(network(rung)), dataclasses.replace(rung, eps=arguments.scale * rung.eps)
        data = images(rung.data, "test", arguments.n)
        x, y = data.images(), data.y
        scaled = "" if arguments.scale == 1 else f" at {arguments.scale:g} budgets"
        row = {"network": rung.name + scaled, "norm": rung.norm, "eps": round(rung.eps, 5), "n": arguments.n}
        spent = {"standard": {}, "fast": {}}
        ways = {
            "standard": ours(model, x, y, assay.Standard(rung.eps, norm=rung.norm), spent["standard"]),
            "fast": ours(model, x, y, assay.Fast(rung.eps, norm=rung.norm), spent["fast"]),
            "autoattack": lambda m=model, a=x, b=y, r=rung: autoattack(m, a, b, r),
        }
        left = {}
        for name, work in ways.items():
            left[name], row[name] = timed(model, work)
        at = left["standard"].nonzero().squeeze(1)
        if len(at):
            row["bare_passes_of_autoattack"] = round(
                bare(model, x[at], y[at], **spent["standard"]) / row["autoattack"]["seconds"], 3
            )
        row["standard_of_autoattack"] = round(row["standard"]["seconds"] / row["autoattack"]["seconds"], 3)
        row["fast_passes_of_autoattack"] = round(row["fast"]["passes"] / row["autoattack"]["passes"], 3)
        row["fast_passes_of_standard"] = round(row["fast"]["passes"] / row["standard"]["passes"], 3)
        row["only_autoattack_breaks"] = int((left["standard"] & ~left["autoattack"]).sum())
        row["only_standard_breaks"] = int((left["autoattack"] & ~left["standard"]).sum())
        row["fast_misses"] = int((left["fast"] & ~(left["standard"] & left["autoattack"])).sum())
        row["only_fast_breaks"] = int((~left["fast"] & left["standard"] & left["autoattack"]).sum())
        rows.append(row)
        print(row, flush=True)
        record("suite", {"threads": arguments.threads, "rows": merged("suite", rows, "network")})


if __name__ == "__main__":
    main()

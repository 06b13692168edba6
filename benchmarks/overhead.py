"""The cost of a step beyond its forward and backward pass, with all rows active and no early stop.

The bare loop and `perturb` do the same 20 steps on the same batch, in turn; the ratio of medians is reported, for PGD
with each norm, APGD and the dual attack. The engine (with its clean pass, its referee and its record) is measured by
the difference of a run of 30 and one of 10 steps at a budget where nothing breaks.
"""

import argparse
import statistics
import time
import warnings

import torch
from common import fashion, models, record
from speed import EPS

import assay

STEPS = 20


def bare(model, x, y):
    """Forward, backward to the input, a sign step, the projection on ball and box."""
    model.eval()
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    size, adv = EPS / 4, x.clone()
    for _ in range(STEPS):
        adv.requires_grad_()
        (grad,) = torch.autograd.grad(torch.nn.functional.cross_entropy(model(adv), y, reduction="sum"), adv)
        adv = (adv.detach() + size * grad.sign()).clamp(x - EPS, x + EPS).clamp(0, 1)
    return adv


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--batch", type=int, default=256)
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    data = fashion("test", arguments.batch)
    x, y, mask = data.images(), data.y, data.images() > 0.5
    attacks = {
        "pgd-linf": assay.PGD(EPS, steps=STEPS, step_size=EPS / 4),
        "pgd-l2": assay.PGD(1.0, norm="l2", steps=STEPS),
        "pgd-l1": assay.PGD(10.0, norm="l1", steps=STEPS),
        "mim-linf": assay.MIM(EPS, steps=STEPS),
        "apgd-linf": assay.APGD(EPS, steps=STEPS),
        "dual-linf": assay.DualPerturbation(EPS / 2, EPS, steps=STEPS),
    }
    rows = {}
    for name, model in models("plain").items():
        jobs = {"bare loop": lambda m=model: bare(m, x, y), "bare loop again": lambda m=model: bare(m, x, y)}
        for attack, made in attacks.items():
            jobs[attack] = lambda m=model, a=made: assay.perturb(m, x, y, a, mask=mask)
        for steps in (10, 30):
            jobs[f"engine {steps}"] = lambda m=model, k=steps: assay.attack(
                m, x, y, assay.PGD(1e-6, steps=k), stop="never", slots=len(x), preflight=False
            )
        times = {job: [] for job in jobs}
        for _ in range(arguments.repeats):
            for job, work in jobs.items():
                began = time.perf_counter()
                work()
                times[job].append(time.perf_counter() - began)
        floor = statistics.median(times["bare loop"])
        right = int((model(x).argmax(1) == y).sum())  # the engine leaves out what is wrong already
        engine = [(b - a) * len(x) / right for a, b in zip(times.pop("engine 10"), times.pop("engine 30"), strict=True)]
        times["engine, all rows active"] = engine
        rows[name] = {
            job: {
                "ms_per_step": round(1000 * statistics.median(t) / STEPS, 2),
                "of_bare_loop": round(statistics.median(t) / floor, 3),
                "best_of_bare_loop": round(min(t) / min(times["bare loop"]), 3),
            }
            for job, t in times.items()
        }
    record("overhead", {"steps": STEPS, "batch": arguments.batch, "repeats": arguments.repeats, "models": rows})


if __name__ == "__main__":
    main()

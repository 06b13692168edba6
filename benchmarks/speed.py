"""PGD, APGD and FGSM: wall time and robust accuracy, assay beside four libraries and the bare loop, in one run.

Everyone attacks the same 512 Fashion-MNIST images at the same budget, steps and step size, in batches of 128, and the
job is a robust accuracy: the others' images are classified once (one forward pass) within their time, as assay's are.
What assay says of the clean images costs it a pass that the others do not make; the ratio with theirs is shown, too.
"""

import argparse
import warnings

import numpy as np
import torch
from common import best, fashion, import_adv_lib, interleaved, models, record, robust_accuracy

import assay

EPS, STEPS, SIZE, N, BATCH = 0.1, 40, 0.01, 512, 128


def bare_loop(model, x, y, eps=EPS, steps=STEPS, size=SIZE):
    """The floor: forward, backward to the input, a sign step, two clamps."""
    out = []
    for xb, yb in zip(x.split(BATCH), y.split(BATCH), strict=True):
        adv = (xb + torch.empty_like(xb).uniform_(-eps, eps)).clamp(0, 1)
        for _ in range(steps):
            adv.requires_grad_()
            (grad,) = torch.autograd.grad(torch.nn.functional.cross_entropy(model(adv), yb, reduction="sum"), adv)
            adv = (adv.detach() + size * grad.sign()).clamp(xb - eps, xb + eps).clamp(0, 1)
        out.append(adv)
    return torch.cat(out)


def peers(model, x, y):
    import foolbox
    import torchattacks
    from art.attacks.evasion import ProjectedGradientDescent
    from art.estimators.classification import PyTorchClassifier

    adv_lib, keep = import_adv_lib()
    wrapped = foolbox.PyTorchModel(model, bounds=(0, 1))
    classifier = PyTorchClassifier(
        model, torch.nn.CrossEntropyLoss(), tuple(x.shape[1:]), 10, clip_values=(0, 1), device_type="cpu"
    )

    def batched(attack):
        return torch.cat([attack(xb, yb) for xb, yb in zip(x.split(BATCH), y.split(BATCH), strict=True)])

    def art(norm, eps, size):
        attack = ProjectedGradientDescent(
            classifier,
            norm=norm,
            eps=eps,
            eps_step=size,
            max_iter=STEPS,
            num_random_init=1,
            batch_size=BATCH,
            verbose=False,
        )
        return torch.from_numpy(attack.generate(x.numpy(), y.numpy()))

    l2, l2_size = 1.0, 0.1
    fb_linf = foolbox.attacks.LinfProjectedGradientDescentAttack(abs_stepsize=SIZE, steps=STEPS)
    fb_l2 = foolbox.attacks.L2ProjectedGradientDescentAttack(abs_stepsize=l2_size, steps=STEPS)
    return {
        "pgd-linf": {
            "torchattacks": lambda: batched(torchattacks.PGD(model, eps=EPS, alpha=SIZE, steps=STEPS)),
            "foolbox": lambda: batched(lambda xb, yb: fb_linf(wrapped, xb, yb, epsilons=EPS)[1]),
            "ART": lambda: art(np.inf, EPS, SIZE),
            "adv-lib": lambda: batched(
                lambda xb, yb: adv_lib.pgd_linf(
                    model, xb, yb, ε=EPS, steps=STEPS, random_init=True, relative_step_size=SIZE / EPS
                )
            ),
        },
        "pgd-l2": {
            "torchattacks": lambda: batched(torchattacks.PGDL2(model, eps=l2, alpha=l2_size, steps=STEPS)),
            "foolbox": lambda: batched(lambda xb, yb: fb_l2(wrapped, xb, yb, epsilons=l2)[1]),
            "ART": lambda: art(2, l2, l2_size),
        },
        "fgsm": {
            "torchattacks": lambda: batched(torchattacks.FGSM(model, eps=EPS)),
            "foolbox": lambda: batched(
                lambda xb, yb: foolbox.attacks.LinfFastGradientAttack()(wrapped, xb, yb, epsilons=EPS)[1]
            ),
        },
        "apgd-ce": {
            "torchattacks": lambda: batched(torchattacks.APGD(model, eps=EPS, steps=STEPS, n_restarts=1, loss="ce")),
            "adv-lib": lambda: batched(
                lambda xb, yb: adv_lib.apgd(
                    model, xb, yb, eps=EPS, norm=float("inf"), n_iter=STEPS, n_restarts=1, loss_function="ce"
                )
            ),
        },
    }, keep


def ours(model, x, y):
    attacks = {
        "pgd-linf": assay.PGD(EPS, steps=STEPS, step_size=SIZE),
        "pgd-l2": assay.PGD(1.0, norm="l2", steps=STEPS, step_size=0.1),
        "fgsm": assay.FGSM(EPS),
        "apgd-ce": assay.APGD(EPS, steps=STEPS),
    }

    def run(name, **settings):
        return lambda: assay.attack(model, x, y, attacks[name], slots=BATCH, **settings)

    return {
        name: {
            "assay": run(name),
            "assay bfloat16": run(name, search="bfloat16"),
            "assay never": run(name, stop="never"),
            "assay without preflight": run(name, preflight=False),
        }
        for name in attacks
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--models", nargs="*", default=["plain", "pgd-at"])
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.manual_seed(0)
    data = fashion("test", N)
    x, y = data.images(), data.y
    result = {
        "n": N,
        "eps": EPS,
        "steps": STEPS,
        "step_size": SIZE,
        "batch": BATCH,
        "repeats": arguments.repeats,
        "models": {},
    }
    for name, model in models(*arguments.models).items():
        others, _keep = peers(model, x, y)
        mine = ours(model, x, y)
        rows = {}
        for attack, jobs in others.items():
            everyone = {"clean pass": lambda m=model: x}
            everyone |= {"bare loop": lambda m=model: bare_loop(m, x, y)} if attack == "pgd-linf" else {}
            everyone = {job: measured(model, work, y) for job, work in (everyone | jobs).items()} | mine[attack]
            times, made = interleaved(everyone, arguments.repeats)
            rows[attack] = summarise(model, x, y, times, made, list(jobs))
            print(name, attack, rows[attack], flush=True)
        result["models"][name] = rows
    record("speed", result)


def measured(model, work, y):
    """The job and its robust accuracy."""
    return lambda: robust_accuracy(model, work().detach(), y)


def summarise(model, x, y, times, made, libraries):
    fastest, clean = min(best(times[name]) for name in libraries), best(times["clean pass"])
    rows = {}
    for name, outcome in made.items():
        row = {"seconds": round(best(times[name]), 3), "of_fastest_peer": round(best(times[name]) / fastest, 3)}
        if isinstance(outcome, assay.Outcome):  # which says what is wrong before the attack, too
            row["of_fastest_peer_and_clean_pass"] = round(best(times[name]) / (fastest + clean), 3)
            row["robust_accuracy"] = round(100 * outcome.robust_accuracy, 2)
            passes = outcome.backwards.float().mean().item()
            row["passes_per_sample"] = round(passes, 2)
        else:
            row["robust_accuracy"] = round(100 * outcome, 2)
        rows[name] = row
    return rows


if __name__ == "__main__":
    main()

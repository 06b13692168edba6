"""Attacks that minimise a distance, beside the same attacks of other libraries: distance, success and time.

The same plain CNN, the same correctly classified Fashion-MNIST images, the same steps and rounds. All libraries run in
turn on the same machine; a distance is measured here, on images that the model misclassifies when asked again.
"""

import argparse
import time
import warnings

import numpy as np
import torch
from common import fashion, import_adv_lib, merged, models, record

import assay
from assay import attacks as ours

ORDER = {"l0": 0, "l1": 1, "l2": 2, "linf": float("inf")}


def adv_lib(name, module="", **settings):
    def run(model, x, y):
        attacks, _ = import_adv_lib()
        return getattr(attacks, name)(model=model, inputs=x, labels=y, **settings)

    return "adv-lib", run


def foolbox(name, **settings):
    def run(model, x, y):
        import foolbox as fb

        wrapped = fb.PyTorchModel(model, bounds=(0, 1), device="cpu")
        return getattr(fb.attacks, name)(**settings)(wrapped, x, y, epsilons=None)[0]

    return "foolbox", run


def art(name, target=None, **settings):
    def run(model, x, y):
        from art.attacks import evasion
        from art.estimators.classification import PyTorchClassifier

        wrapped = PyTorchClassifier(model, torch.nn.CrossEntropyLoss(), tuple(x.shape[1:]), 10, clip_values=(0, 1))
        attack = getattr(evasion, name)(wrapped, verbose=False, **settings)
        wanted = None if target is None else np.eye(10)[((y + 1) % 10).numpy()]
        return torch.from_numpy(attack.generate(x.numpy(), wanted))

    return "art", run


def cases(steps):
    fmn = [
        (f"FMN {norm}", norm, ours.FMN(norm=norm), [adv_lib("fmn", norm=ORDER[norm], steps=100)], None)
        for norm in ORDER
    ]
    fab = [
        (f"FAB {norm}", norm, ours.FAB(norm=norm, steps=50), [adv_lib("fab", norm=ORDER[norm], n_iter=50)], None)
        for norm in ("l1", "l2", "linf")
    ]
    return [
        ("DeepFool l2", "l2", ours.DeepFool(), [adv_lib("df", steps=50)], None),
        ("DeepFool linf", "linf", ours.DeepFool(norm="linf"), [adv_lib("df", steps=50, norm=float("inf"))], None),
        ("C&W l2", "l2", ours.CarliniWagnerL2(steps=steps), [adv_lib("carlini_wagner_l2", max_iterations=steps)], None),
        (
            "C&W linf",
            "linf",
            ours.CarliniWagnerLinf(steps=steps),
            [adv_lib("carlini_wagner_linf", max_iterations=steps)],
            None,
        ),
        ("DDN", "l2", ours.DDN(), [adv_lib("ddn", steps=100), foolbox("DDNAttack", steps=100)], None),
        *fmn,
        *fab,
        ("EAD", "l1", ours.EAD(steps=steps), [foolbox("EADAttack", steps=steps, decision_rule="L1")], None),
        ("sigma-zero", "l0", ours.SigmaZero(steps=200), [adv_lib("sigma_zero", num_steps=200)], None),
        (
            "JSMA",
            "l0",
            ours.JSMA(),
            [art("SaliencyMapMethod", target=True, theta=1.0, gamma=1.0, batch_size=256)],
            True,
        ),
        (
            "C&W l0",
            "l0",
            ours.CarliniWagnerL0(steps=steps),
            [art("CarliniL0Method", max_iter=steps, batch_size=256, learning_rate=0.01)],
            None,
        ),
    ]


def measured(model, x, y, images, norm, target):
    """Success and distances by the benchmark's own hand."""
    with torch.no_grad():
        predicted = model(images.clamp(0, 1)).argmax(1)
    reached = predicted == (y + 1) % 10 if target else predicted != y
    length = torch.linalg.vector_norm((images - x).double().flatten(1), ord=ORDER[norm], dim=1)
    return reached, torch.where(reached, length, torch.inf)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-n", type=int, default=256)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--only", default="")
    parser.add_argument("--model", default="plain")
    parser.add_argument("--no-peers", action="store_true")
    parser.add_argument("--save", action="store_true")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    model = models(arguments.model)[arguments.model].eval()
    for p in model.parameters():
        p.requires_grad_(False)
    data = fashion("test", 2 * arguments.n)
    x, y = data.images(), data.y
    with torch.no_grad():
        right = model(x).argmax(1) == y
    x, y = x[right][: arguments.n], y[right][: arguments.n]
    rows = []
    for name, norm, attack, peers, target in cases(arguments.steps):
        if arguments.only and not any(part in name for part in arguments.only.split(",")):
            continue
        began = time.perf_counter()
        outcome = assay.attack(model, x, y, attack, target=(y + 1) % 10 if target else None, preflight=False)
        seconds = time.perf_counter() - began
        reached, length = measured(model, x, y, outcome.images, norm, target)
        passes = round((outcome.forwards + outcome.backwards).float().mean().item(), 1)
        row = {
            "attack": name,
            "median": length.median().item(),
            "success": reached.float().mean().item(),
            "seconds": round(seconds, 2),
            "passes": passes,
            "peers": {},
        }
        for peer, run in [] if arguments.no_peers else peers:
            began = time.perf_counter()
            images = run(model, x, y)
            theirs = time.perf_counter() - began
            reached, length = measured(model, x, y, images, norm, target)
            median = length.median().item()
            row["peers"][peer] = {
                "median": median,
                "success": reached.float().mean().item(),
                "seconds": round(theirs, 2),
                "median_ratio": round(row["median"] / median, 4),
                "seconds_ratio": round(seconds / theirs, 3),
            }
        rows.append(row)
        print(row, flush=True)
    if arguments.save:
        record(
            "minimal",
            {
                "n": len(y),
                "steps": arguments.steps,
                "model": arguments.model,
                "rows": merged("minimal", rows, "attack"),
            },
        )


if __name__ == "__main__":
    main()

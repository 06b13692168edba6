"""Peak memory of attacks on 64 images of 224×224×3 and a ResNet-18, beside the libraries that have the same attack.

Each run is a process of its own, so that the peak that the kernel counted is its own; freed memory goes back to the
kernel at once. What is compared is the peak beyond that of the bare loop: two passes forward and backward on the same
batch. Images are random, the weights too, the labels what the network predicts, and three steps are run.

With ``--groups``: StrAttack with overlapping groups (2 × 2 pixels, one apart) on one image, beside full copies for
each group.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import warnings

import torch
from common import import_adv_lib, record

import assay

SIDE, BATCH, STEPS, CLASSES = 224, 64, 3, 10
EPS = 1e-6  # nothing breaks: every row stays to the end


def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024  # MiB on Linux


def bare(model, x, y):
    for _ in range(2):
        leaf = x.clone().requires_grad_()
        torch.autograd.grad(torch.nn.functional.cross_entropy(model(leaf), y), leaf)


def ours(attack, **settings):
    return lambda model, x, y: assay.attack(model, x, y, attack, preflight=False, **settings)


def adv_lib(name, **settings):
    def run(model, x, y):
        attacks, _keep = import_adv_lib()
        getattr(attacks, name)(model, x, y, **settings)

    return run


def torchattack(name, **settings):
    def run(model, x, y):
        import torchattacks

        getattr(torchattacks, name)(model, **settings)(x, y)

    return run


def foolbox(name, eps=None, **settings):
    def run(model, x, y):
        import foolbox as fb

        getattr(fb.attacks, name)(**settings)(fb.PyTorchModel(model, bounds=(0, 1), device="cpu"), x, y, epsilons=eps)

    return run


def art(name, targeted=False, **settings):
    def run(model, x, y):
        from art.attacks import evasion
        from art.estimators.classification import PyTorchClassifier

        wrapped = PyTorchClassifier(
            model, torch.nn.CrossEntropyLoss(), (3, SIDE, SIDE), CLASSES, clip_values=(0, 1), device_type="cpu"
        )
        labels = torch.nn.functional.one_hot((y + 1) % CLASSES, CLASSES).numpy() if targeted else y.numpy()
        getattr(evasion, name)(wrapped, verbose=False, batch_size=BATCH, **settings).generate(x.numpy(), labels)

    return run


def towards_next(attack):
    return lambda model, x, y: assay.attack(model, x, y, attack, target=(y + 1) % CLASSES, preflight=False)


def jobs():
    pixels = 2 * STEPS / (3 * SIDE * SIDE)  # so many values that JSMA changes two in each of its steps
    return {
        "PGD": {
            "assay": ours(assay.PGD(EPS, steps=STEPS)),
            "torchattacks": torchattack("PGD", eps=EPS, steps=STEPS),
            "foolbox": foolbox("LinfProjectedGradientDescentAttack", eps=EPS, steps=STEPS),
            "ART": art("ProjectedGradientDescent", eps=EPS, eps_step=EPS / 4, max_iter=STEPS, num_random_init=1),
            "adv-lib": adv_lib("pgd_linf", ε=EPS, steps=STEPS, random_init=True),
        },
        "APGD": {
            "assay": ours(assay.APGD(EPS, steps=STEPS)),
            "torchattacks": torchattack("APGD", eps=EPS, steps=STEPS),
            "adv-lib": adv_lib("apgd", eps=EPS, norm=float("inf"), n_iter=STEPS, n_restarts=1, loss_function="ce"),
        },
        "C&W l2": {
            "assay": ours(assay.attacks.CarliniWagnerL2(steps=STEPS, rounds=1)),
            "torchattacks": torchattack("CW", steps=STEPS),
            "foolbox": foolbox("L2CarliniWagnerAttack", steps=STEPS, binary_search_steps=1),
            "adv-lib": adv_lib("carlini_wagner_l2", max_iterations=10, binary_search_steps=1),
        },
        "FAB": {
            "assay": ours(assay.FAB(EPS, steps=STEPS, targets=1)),
            "adv-lib": adv_lib("fab", norm=float("inf"), n_iter=STEPS),
        },
        "JSMA": {
            "assay": towards_next(assay.attacks.JSMA(gamma=pixels, saliency="logits")),
            "ART": art("SaliencyMapMethod", targeted=True, theta=1.0, gamma=pixels),
        },
        "StrAttack": {"assay": ours(assay.StrAttack(group=16, stride=16, steps=STEPS, rounds=1, refine=0))},
        "EAD": {
            "assay": ours(assay.attacks.EAD(steps=STEPS, rounds=1)),
            "foolbox": foolbox("EADAttack", steps=STEPS, binary_search_steps=1),
        },
    }


def one(attack, library):
    """The peak of one process, MiB, and what it was before the attack."""
    warnings.simplefilter("ignore")
    torch.manual_seed(0)
    model = assay.models.build("resnet18", channels=3, classes=CLASSES, size=SIDE).eval()
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    x = torch.rand(BATCH, 3, SIDE, SIDE)
    with torch.no_grad():
        y = model(x).argmax(1)
    run = bare if attack == "bare loop" else jobs()[attack][library]
    run(model, x[:2], y[:2])  # libraries are loaded
    before = peak()
    run(model, x, y)
    return {"before": before, "peak": peak()}


def overlapping(side, steps=20):
    """StrAttack with groups that overlap, on one image and a small network."""
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
    return {"before": before, "peak": peak()}


def in_a_process(*arguments):
    """What one part of this file prints in a process of its own."""
    settings = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}
    done = subprocess.run(
        [sys.executable, __file__, *map(str, arguments)], capture_output=True, text=True, env=settings
    )
    if done.returncode:
        raise RuntimeError(done.stderr[-2000:])
    return json.loads(done.stdout.splitlines()[-1])


def risen(run):
    return run["peak"] - run["before"]


def grouped():
    rows = []
    for side in (64, 224):
        here, groups = in_a_process("--side", side), (side - 1) ** 2
        full = 2 * groups * 3 * side * side * 4 / 2**20  # y and v, float32
        rows.append({"side": side, "groups": groups, "MiB": round(risen(here), 1)})
        rows[-1]["full_copies_MiB"] = round(full, 1)
    return rows


def compared(only):
    floor = risen(in_a_process("--attack", "bare loop"))
    rows = []
    for attack, libraries in jobs().items():
        if only and attack not in only:
            continue
        beyond = {}
        for library in libraries:
            beyond[library] = round(risen(in_a_process("--attack", attack, "--library", library)) - floor, 1)
            print(attack, library, beyond[library], flush=True)
        row = {"attack": attack, "MiB_beyond_the_bare_loop": beyond}
        others = [value for name, value in beyond.items() if name != "assay"]
        if others:
            row["of_leanest_peer"] = round((floor + beyond["assay"]) / (floor + min(others)), 3)
            row["beyond_of_leanest_peer"] = round(beyond["assay"] / min(others), 3) if min(others) > 0 else None
        rows.append(row)
    return round(floor, 1), rows


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--side", type=int)
    parser.add_argument("--attack")
    parser.add_argument("--library")
    parser.add_argument("--only", nargs="*")
    arguments = parser.parse_args()
    if arguments.side:
        print(json.dumps(overlapping(arguments.side)))
    elif arguments.attack:
        print(json.dumps(one(arguments.attack, arguments.library)))
    else:
        floor, rows = compared(arguments.only)
        setting = {"side": SIDE, "batch": BATCH, "model": "resnet18", "bare_loop_MiB": floor}
        result = {**setting, "rows": rows, "image_MiB": round(BATCH * 3 * SIDE * SIDE * 4 / 2**20, 1)}
        if not arguments.only:
            record("memory", {**result, "overlapping_groups": grouped()})


if __name__ == "__main__":
    main()

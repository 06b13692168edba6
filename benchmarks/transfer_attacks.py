"""Images made on one network, tried on three others: assay's transfer attacks beside torchattacks', at equal settings.

Run `make transfer_attacks`, or `transfer_attacks.py --cifar parquet:FILE`. Four architectures on Fashion-MNIST, and on
CIFAR-10 where its files are given; each is the source once. linf 16/255, ten steps of 1.6/255, momentum 1. Success: the
share of images, right on the target before, that the target misclassifies after. Admix mixes in training images.
"""

import argparse
import sys

import torch
from common import CACHE, FASHION, interleaved, record

import assay
from assay.data import load
from assay.training import Recipe, train

EPS, STEPS, COUNT = 16 / 255, 10, 512
STEP = EPS / STEPS
RECIPES = {
    "fashion": {"strattack-cnn": 3, "tiny-cnn": 4, "gtsrb-cnn": 3, "conv-small": 3},
    "cifar10": {"strattack-cnn-cifar10": 8, "tiny-cnn": 10, "gtsrb-cnn": 8, "conv-small": 8},
}
"""Epochs of each network."""


def networks(name, data):
    made = {}
    for arch, epochs in RECIPES[name].items():
        recipe = Recipe(arch=arch, epochs=epochs, batch=128, rate=1e-3, flip=name == "cifar10")
        folder = CACHE / f"transfer-{name}-{arch}"
        made[arch] = train(data, recipe, folder, progress=lambda e: print(e, file=sys.stderr)).model.eval()
    return made


def ours(spec):
    common = {"steps": STEPS, "step_size": STEP}
    return {
        "BIM": assay.BIM(EPS, **common),
        "MI-FGSM": assay.MIM(EPS, **common),
        "DI-FGSM": assay.DIFGSM(EPS, **common),
        "TI-FGSM": assay.TIFGSM(EPS, **common),
        "SI-NI-FGSM": assay.SINIFGSM(EPS, **common),
        "VMI-FGSM": assay.VMIFGSM(EPS, **common),
        "PI-FGSM": assay.PIFGSM(EPS, **common),
        "Admix": assay.Admix(EPS, **common, data=spec),
    }


def theirs(model):
    import torchattacks

    common = {"eps": EPS, "alpha": STEP, "steps": STEPS}
    return {
        "BIM": torchattacks.BIM(model, **common),
        "MI-FGSM": torchattacks.MIFGSM(model, **common, decay=1.0),
        "DI-FGSM": torchattacks.DIFGSM(model, **common, decay=1.0, resize_rate=0.9, diversity_prob=0.5),
        "TI-FGSM": torchattacks.TIFGSM(model, **common, decay=1.0, len_kernel=3, resize_rate=0.9, diversity_prob=0.5),
        "SI-NI-FGSM": torchattacks.SINIFGSM(model, **common, decay=1.0, m=5),
        "VMI-FGSM": torchattacks.VMIFGSM(model, **common, decay=1.0, N=20, beta=1.5),
        "PI-FGSM": torchattacks.PIFGSM(model, max_epsilon=EPS, num_iter_set=STEPS),
    }


def success(models, source, images, x, y):
    """Share of images, right before, that each other network misclassifies; its mean, and the source's own."""
    shares = {}
    for name, model in models.items():
        with torch.no_grad():
            right = model(x).argmax(1) == y
            shares[name] = float((model(images).argmax(1) != y)[right].float().mean())
    others = [share for name, share in shares.items() if name != source]
    return round(100 * sum(others) / len(others), 2), round(100 * shares[source], 2)


def rows_of(name, spec):
    data = load(spec, split="test", limit=COUNT)
    models = networks(name, load(spec, split="train", limit=20000))
    x, y = data.images(), data.y
    for source, model in models.items():
        jobs = {}
        for title, attack in ours(spec).items():
            jobs["assay", title] = lambda a=attack, m=model: assay.perturb(m, x, y, a, seed=0)
        for title, attack in theirs(model).items():
            if x.shape[1] != 3 and title in ("TI-FGSM", "PI-FGSM"):
                continue  # their kernels are written for three channels
            jobs["torchattacks", title] = lambda a=attack: a(x, y)
        times, images = interleaved(jobs, 1)
        for (library, title), made in images.items():
            if float((made - x).abs().max()) > EPS + 1e-5:
                raise RuntimeError(f"{library} {title} leaves the budget")
            away, own = success(models, source, made, x, y)
            yield {
                "data": name,
                "source": source,
                "attack": title,
                "library": library,
                "success on others, %": away,
                "on the source, %": own,
                "seconds": round(times[library, title][0], 2),
            }


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--cifar", default="", help="CIFAR-10, as assay.data.load takes it")
    options = parser.parse_args()
    sets = {"fashion": FASHION} | ({"cifar10": options.cifar} if options.cifar else {})
    rows = [row for name, spec in sets.items() for row in rows_of(name, spec)]
    record("transfer_attacks", {"images": COUNT, "budget": "linf 16/255", "rows": rows})


if __name__ == "__main__":
    main()

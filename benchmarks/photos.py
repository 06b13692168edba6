"""Dual-perturbation on real photographs with human-marked foregrounds (paper 000, figures 3 and 4, at small scale).

A small CNN, trained clean, with PGD-AT and with AT-Dual, is attacked over ε_F and ε_B; the foreground score and the
accuracy are measured against λ. Any archive with x, y and masks will do:
python photos.py --data npz:path/to/stl10-airplane-car-masks.npz
"""

import argparse
import sys
import warnings

import torch
from common import CACHE, HERE, record

import assay
from assay.data import load as load_data
from assay.masks import SpectralResidual, foreground_score
from assay.training import Recipe, train

EPS_F, EPS_B = 4 / 255, 20 / 255
LAMBDAS = (0.0, 0.1, 1.0, 10.0, 100.0, 1000.0)
COLOURS = {"clean": "#2b6ca3", "PGD-AT": "#c05a2e", "AT-Dual": "#4d8b3f"}


def trained(data, epochs):
    shared = {
        "arch": "tiny-cnn",
        "epochs": epochs,
        "batch": 64,
        "rate": 2e-3,
        "flip": True,
        "attack_steps": 5,
        "milestones": (int(0.75 * epochs),),
    }
    recipes = {
        "clean": Recipe(**shared),
        "PGD-AT": Recipe(objective="pgd-at", eps=EPS_F, **shared),
        "AT-Dual": Recipe(objective="at-dual", eps=EPS_F, eps_background=EPS_B, **shared),
    }
    return {
        name: train(data, recipe, CACHE / f"photos-{name}", progress=lambda e: print(e, file=sys.stderr)).model
        for name, recipe in recipes.items()
    }


def accuracy(model, x, y, mask, attack):
    return round(100 * assay.attack(model, x, y, attack, mask=mask, preflight=False).robust_accuracy, 2)


def against_lambda(model, x, y, mask):
    """Score and accuracy on the last iterate of the attack, as the paper measures them."""
    saliency, rows = SpectralResidual(), []
    for lam in LAMBDAS:
        attack = assay.DualPerturbation(EPS_F, EPS_B, steps=20, saliency=saliency, lam=lam)
        adversarial = assay.perturb(model, x, y, attack, mask=mask)
        with torch.no_grad():
            score = foreground_score(saliency, adversarial, mask.float()).mean().item()
            right = (model(adversarial).argmax(1) == y).float().mean().item()
        rows.append({"lambda": lam, "foreground_score": round(score, 4), "accuracy": round(100 * right, 2)})
    return rows


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", required=True)
    parser.add_argument("--epochs", type=int, default=16)
    parser.add_argument("--limit", type=int, default=200, help="test images")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    models = trained(load_data(arguments.data, split="train"), arguments.epochs)
    test = load_data(arguments.data, split="test", limit=arguments.limit)
    x, y, mask = test.images(), test.y, test.masks
    with torch.no_grad():
        clean_score = foreground_score(SpectralResidual(), x, mask.float()).mean().item()
    grid = [0.0, 2 / 255, 4 / 255, 8 / 255, 20 / 255, 32 / 255]
    rows = {}
    for name, model in models.items():
        rows[name] = {
            "pgd": [(e, accuracy(model, x, y, mask, assay.PGD(e, steps=20))) for e in grid],
            "background": [(e, accuracy(model, x, y, mask, assay.DualPerturbation(EPS_F, e, steps=20))) for e in grid],
            "foreground": [(e, accuracy(model, x, y, mask, assay.DualPerturbation(e, EPS_B, steps=20))) for e in grid],
            "lambda": against_lambda(model, x, y, mask),
        }
        print(name, rows[name], file=sys.stderr, flush=True)
    share = round(mask.float().mean().item(), 3)
    draw(rows, clean_score)
    record(
        "photos",
        {
            "n": len(y),
            "foreground_share": share,
            "clean_foreground_score": round(clean_score, 4),
            "eps_foreground": EPS_F,
            "eps_background": EPS_B,
            "models": rows,
        },
    )


def draw(rows, clean_score):
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(1, 5, figsize=(19, 3.6))
    titles = {
        "pgd": "PGD-20 over ε",
        "background": "dual, ε_F = 4/255, over ε_B",
        "foreground": "dual, ε_B = 20/255, over ε_F",
    }
    for axis, (key, title) in zip(axes, titles.items(), strict=False):
        for name, row in rows.items():
            axis.plot(
                [255 * e for e, _ in row[key]], [a for _, a in row[key]], "o-", ms=3, color=COLOURS[name], label=name
            )
        axis.set(title=title, xlabel="budget (of 255)", ylim=(0, 100))
    for axis, key, title in (
        (axes[3], "foreground_score", "foreground score over λ"),
        (axes[4], "accuracy", "accuracy over λ"),
    ):
        for name, row in rows.items():
            values = [r[key] for r in row["lambda"]]
            axis.plot(range(len(LAMBDAS)), values, "o-", ms=3, color=COLOURS[name], label=name)
        axis.set(title=title, xlabel="λ")
        axis.set_xticks(range(len(LAMBDAS)), [f"{lam:g}" for lam in LAMBDAS])
    axes[3].axhline(clean_score, color="grey", lw=0.8, ls=":", label="clean images")
    axes[4].set_ylim(0, 100)
    axes[0].set_ylabel("accuracy, %")
    axes[3].legend(frameon=False, fontsize=8)
    for axis in axes:
        axis.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    figure.savefig(HERE / "results" / "photos.png", dpi=80)


if __name__ == "__main__":
    main()

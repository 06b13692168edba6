"""Randomised smoothing on made scenes, in the pattern of paper 000's tables 4 to 6, and certificates against attacks.

Accuracy counts an abstention as wrong. Attacks maximise the expected loss over fresh noise (EOT), with masks known.
"""

import argparse
import warnings

import torch
from common import CACHE, record

import assay
from assay.data import load
from assay.defences import ABSTAIN, Smoothed, adaptation_of
from assay.training import Recipe, train

SIGMAS = (0.1, 0.25, 0.5)
LINF = (0, 4 / 255, 8 / 255, 12 / 255)
L2 = (0, 0.25, 0.5, 0.75)


def network(sigma, images, epochs):
    data = load(f"scenes:size=32,count={images}", split="train")
    recipe = Recipe(
        arch="tiny-cnn", epochs=epochs, batch=64, rate=2e-3, schedule="cosine", objective=f"gaussian:sigma={sigma}"
    )
    return train(data, recipe, CACHE / f"smoothing-{sigma}-{images}-{epochs}").model.requires_grad_(False)


def attacked(smooth, data, norm, eps, draws):
    """Images of the dual-perturbation attack at this foreground budget, five times it on the background."""
    if not eps:
        return data.images()
    how = adaptation_of(Smoothed(smooth.model, smooth.sigma, attack_draws=draws))
    attack = assay.DualPerturbation(eps, 5 * eps, norm=norm, steps=20)
    return assay.attack(
        smooth, data.images(), data.y, attack, mask=data.masks, surrogate=how.surrogate, stop="never", preflight=False
    ).images


def accuracy(smooth, x, y, n):
    labels = smooth.predict(x, n=n)
    return round(100 * (labels == y).float().mean().item(), 1), round(
        100 * (labels == ABSTAIN).float().mean().item(), 1
    )


def certificates(smooth, data, n):
    """Per sample, the certified l2 radius and the shortest perturbation found that changes the vote."""
    x, y = data.images(), data.y
    found = smooth.certify(x, n=n, n0=100)
    held = found.label == y
    how = adaptation_of(Smoothed(smooth.model, smooth.sigma, attack_draws=8))
    shortest = torch.full((len(x),), float("inf"), dtype=torch.float64)
    for eps in (0.1, 0.2, 0.35, 0.6, 1.0):
        attack = assay.PGD(eps, norm="l2", steps=20)
        moved = assay.attack(smooth, x, y, attack, surrogate=how.surrogate, stop="never", preflight=False).images
        wrong = smooth.votes(moved, 400, "predict").argmax(1) != y
        length = (moved - x).flatten(1).norm(dim=1).double()
        shortest = torch.where(wrong & (length < shortest), length, shortest)
    return {
        "sigma": smooth.sigma,
        "n": n,
        "certified": round(100 * held.float().mean().item(), 1),
        "median_radius": round(float(found.radius[held].median()), 3),
        "median_shortest_found": _finite(float(shortest[held].median())),
        "broken_within_radius": int((shortest[held] <= found.radius[held]).sum()),
        "least_ratio": round(float((shortest[held] / found.radius[held]).min()), 3),
    }


def _finite(value):
    return round(value, 3) if value < float("inf") else "above 1"


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-n", type=int, default=128)
    parser.add_argument("--images", type=int, default=6000)
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--draws", type=int, default=8)
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    data = load(f"scenes:size=32,count={arguments.n}", split="test")
    rows, votes, proofs = [], [], []
    for sigma in SIGMAS:
        smooth = Smoothed(network(sigma, arguments.images, arguments.epochs), sigma)
        for norm, budgets in (("linf", LINF), ("l2", L2)):
            for eps in budgets:
                moved = attacked(smooth, data, norm, eps, arguments.draws)
                right, away = accuracy(smooth, moved, data.y, 100)
                rows.append({"sigma": sigma, "norm": norm, "eps": eps, "accuracy": right, "abstained": away})
                print(rows[-1], flush=True)
                for n in (1, 25, 100) if norm == "linf" and sigma == 0.25 else ():
                    right, away = accuracy(smooth, moved, data.y, n)
                    votes.append({"n": n, "eps": eps, "accuracy": right, "abstained": away})
                    print(votes[-1], flush=True)
        proofs.append(certificates(smooth, data.take(slice(0, 64)), 1000))
        print(proofs[-1], flush=True)
    record("smoothing", {"n": arguments.n, "rows": rows, "votes": votes, "certificates": proofs})


if __name__ == "__main__":
    main()

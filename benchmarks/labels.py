"""Label leaking (Kurakin et al., 2017, section 4.1): FGSM training with true labels and with predicted ones.

A leak shows where a classifier does better on FGSM images made with the true label than on clean ones.
"""

import argparse
import warnings

import torch
from common import CACHE, fashion, record

import assay
from assay.core.model_state import preserve_state
from assay.training import Recipe, train


def accuracy(model, x, y):
    with preserve_state(model), torch.no_grad():
        return torch.cat([model(part).argmax(1) for part in x.split(256)]) == y


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-n", type=int, default=2000)
    parser.add_argument("--images", type=int, default=6000)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--eps", type=float, default=0.3)
    parser.add_argument("--share", type=float, default=0.0)
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    eps, data, test = arguments.eps, fashion("train", arguments.images), fashion("test", arguments.n)
    x, y, rows = test.images(), test.y, []
    for labels in ("true", "predicted"):
        recipe = Recipe(
            arch="tiny-cnn",
            epochs=arguments.epochs,
            batch=64,
            rate=2e-3,
            schedule="cosine",
            eps=eps,
            objective=f"mixed:labels={labels},share={arguments.share}",
        )
        name = f"leak-{labels}-{eps}-{arguments.share}-{arguments.epochs}"
        model = train(data, recipe, CACHE / name).model.requires_grad_(False)
        with torch.no_grad():
            said = torch.cat([model(part).argmax(1) for part in x.split(256)])
        by_truth = assay.perturb(model, x, y, assay.FGSM(eps))
        by_prediction = assay.perturb(model, x, said, assay.FGSM(eps))
        pgd = assay.attack(model, x[:256], y[:256], assay.APGD(eps, steps=40), preflight=False)
        row = {
            "trained with labels": labels,
            "clean": accuracy(model, x, y).float().mean().item(),
            "fgsm, true labels": accuracy(model, by_truth, y).float().mean().item(),
            "fgsm, predicted labels": accuracy(model, by_prediction, y).float().mean().item(),
            "apgd (256 images)": pgd.robust_accuracy,
        }
        rows.append({k: round(100 * v, 1) if isinstance(v, float) else v for k, v in row.items()})
        print(rows[-1], flush=True)
    record("labels", {"n": arguments.n, "eps": eps, "share": arguments.share, "rows": rows})


if __name__ == "__main__":
    main()

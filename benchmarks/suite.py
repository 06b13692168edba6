"""`Standard` and `Fast` beside the AutoAttack package: robust accuracy and wall time, the same images and budget."""

import argparse
import time
import warnings

import torch
from common import fashion, merged, models, record

import assay

CASES = (
    ("plain", "linf", 0.05),
    ("pgd-at", "linf", 0.1),
    ("trades", "linf", 0.1),
    ("noise", "l2", 0.5),
    ("four-classes", "linf", 0.15),
    ("pgd-at-l2", "l2", 1.0),
)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-n", type=int, default=64)
    parser.add_argument("--models", nargs="+", default=[name for name, _, _ in CASES])
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    from pyautoattack import AutoAttack

    rows = []
    for name, norm, eps in CASES:
        if name not in arguments.models:
            continue
        model = models(name)[name].eval()
        for parameter in model.parameters():
            parameter.requires_grad_(False)
        data = fashion("test", arguments.n * (4 if name == "four-classes" else 1))
        data = data.take(data.y < model(data.images(slice(0, 1))).shape[1]).head(arguments.n)
        x, y = data.images(), data.y
        survived = {}
        row = {"model": name, "norm": norm, "eps": eps}
        for label, attack in (("standard", assay.Standard(eps, norm=norm)), ("fast", assay.Fast(eps, norm=norm))):
            began = time.perf_counter()
            outcome = assay.attack(model, x, y, attack, slots=256, preflight=False)
            survived[label] = outcome.robust
            row[label] = {
                "robust": round(100 * outcome.robust_accuracy, 2),
                "seconds": round(time.perf_counter() - began, 1),
                "passes": (outcome.forwards + 2 * outcome.backwards).float().mean().item(),
            }
        began = time.perf_counter()
        adversary = AutoAttack(
            model, norm={"linf": "Linf", "l2": "L2"}[norm], eps=eps, version="standard", device="cpu"
        )
        others = min(9, model(x[:1]).shape[1] - 1)
        adversary.apgd_targeted.n_target_classes = adversary.fab.n_target_classes = others
        images, _ = adversary.run_standard_evaluation(x, y, batch_size=256)
        with torch.no_grad():
            right = model(images).argmax(1) == y
        robust = right.float().mean().item()
        row["autoattack"] = {"robust": round(100 * robust, 2), "seconds": round(time.perf_counter() - began, 1)}
        row["only_autoattack_breaks"] = int((survived["standard"] & ~right).sum())
        row["only_assay_breaks"] = int((~survived["standard"] & right).sum())
        row["fast_of_standard"] = round(row["fast"]["passes"] / row["standard"]["passes"], 3)
        row["seconds_ratio"] = round(row["standard"]["seconds"] / row["autoattack"]["seconds"], 3)
        rows.append(row)
        print(row, flush=True)
        record("suite", {"n": arguments.n, "rows": merged("suite", rows, "model")})


if __name__ == "__main__":
    main()

"""Paper 002, section 6: do StrAttack's perturbations fall where the classifier is sensitive, and C&W's less so?

On Fashion-MNIST and, with --data, on CIFAR-10; random targets, as the paper's average case.
"""

import argparse

import torch
from common import CACHE, HERE, fashion, merged, models, record

from assay.attacks import EAD, CarliniWagnerL2, StrAttack
from assay.data import load as load_data
from assay.diagnostics import interpretability
from assay.models import load as load_model

PAPER = {
    "CAM, ImageNet": {"StrAttack": 0.77, "C&W l2": 0.65},
    "ASM, ImageNet": "StrAttack above C&W at every percentile",
}
ATTACKS = {"StrAttack": StrAttack(), "C&W l2": CarliniWagnerL2(steps=200, rounds=6), "EAD": EAD(steps=200, rounds=6)}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-n", type=int, default=64)
    parser.add_argument("--data", help="CIFAR-10, for the networks that signatures.py has trained")
    arguments = parser.parse_args()
    cases = {"Fashion-MNIST, strattack-cnn": (models("plain")["plain"], fashion("test", arguments.n))}
    if arguments.data:
        data = load_data(arguments.data, split="test", limit=arguments.n)
        for arch in ("tiny-cnn", "gtsrb-cnn", "strattack-cnn"):
            path = CACHE / f"signature-{arch}" / "model.safetensors"
            cases[f"CIFAR-10, {arch}"] = (load_model(str(path)), data)
    for case, (model, data) in cases.items():
        places = torch.randint(1, 10, data.y.shape, generator=torch.Generator().manual_seed(0))
        found = interpretability(model, data.images(), data.y, (data.y + places) % 10, ATTACKS, told=print)
        found.pictures().savefig(HERE / "results" / f"interpretability-{case.split(',')[0].lower()}.png", dpi=110,
                                 facecolor="white")  # fmt: skip
        above = {name: float((by["StrAttack"].mean(1) > by["C&W l2"].mean(1)).float().mean())
                 for name, by in found.each.items()}  # fmt: skip
        row = {"case": case, "n": found.count, "percentiles": found.percentiles,
               "score": {name: {a: [round(v, 3) for v in values] for a, values in by.items()}
                         for name, by in found.score.items()},
               "share of images on which StrAttack is above": {k: round(v, 3) for k, v in above.items()},
               "size": {a: {"pixels": round(p, 3), "l2": round(l2, 3)} for a, (p, l2) in found.size.items()},
               "verdict": found.verdict()}  # fmt: skip
        record("interpretability", {"paper": PAPER, "rows": merged("interpretability", [row], "case")})


if __name__ == "__main__":
    main()

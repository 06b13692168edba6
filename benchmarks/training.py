"""Every training objective on Fashion-MNIST: clean and robust accuracy (APGD-CE and targeted APGD-DLR) in one table."""

import argparse
import warnings

import torch
from common import CACHE, fashion, merged, record

import assay
from assay.training import Recipe, train

EPS, EPOCHS = 0.1, 8
SPECS = {
    "clean": {},
    "fgsm-at": {},
    "pgd-at": {},
    "mixed": {},
    "free:replays=4": {"epochs": 3},
    "fast": {},
    "trades": {},
    "mart": {},
    "alp": {},
    "iat": {},
    "avmixup": {},
    "awp:gamma=0.005": {},
    "gaussian:sigma=0.25": {},
    "stability:sigma=0.25": {},
    "distillation": {},
    "cure:weight=10": {},
    "llr": {},
    "attribution": {},
}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-n", type=int, default=256)
    parser.add_argument("--images", type=int, default=6000)
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    parser.add_argument("--only", nargs="*", default=[])
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    data, test = fashion("train", arguments.images), fashion("test", arguments.n)
    shared = {
        "arch": "tiny-cnn",
        "epochs": arguments.epochs,
        "batch": 64,
        "rate": 2e-3,
        "schedule": "cosine",
        "eps": EPS,
        "attack_steps": 7,
    }
    for name, changes in SPECS.items():
        if arguments.only and name.partition(":")[0] not in arguments.only:
            continue
        spec = name
        if name == "distillation":
            teacher = train(data, Recipe(**shared, objective="clean:temperature=20"), CACHE / "train-teacher")
            spec = f"distillation:teacher={teacher.path},temperature=20"
        longer = "" if arguments.epochs == EPOCHS else f", {arguments.epochs} epochs"
        folder = CACHE / f"train-{name.replace(':', '-')}{longer.replace(', ', '-').replace(' ', '-')}"
        found = train(data, Recipe(**{**shared, **changes}, objective=spec), folder)
        found.model.requires_grad_(False)
        attack = assay.Cascade((assay.APGD(EPS, steps=50), assay.APGD(EPS, steps=50, loss="dlr", targets=5)))
        outcome = assay.attack(found.model, test.images(), test.y, attack, preflight=False)
        row = {
            "objective": name + longer,
            "clean": round(100 * outcome.clean_accuracy, 1),
            "robust": round(100 * outcome.robust_accuracy, 1),
            "n": len(test),
            "seconds_an_epoch": round(sum(e.seconds for e in found.history) / len(found.history), 1),
        }
        print(row, flush=True)
        record("training", {"images": len(data), "eps": EPS, "rows": merged("training", [row], "objective")})


if __name__ == "__main__":
    torch.manual_seed(0)
    main()

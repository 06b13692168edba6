"""Every defence on Fashion-MNIST: accuracy clean, under the attack on the bare network, and under the adaptive one."""

import argparse
import time
import warnings

import torch
from common import CACHE, fashion, merged, record

import assay
from assay.core.model_state import preserve_state
from assay.defences import adaptation_of, defend, fit_defence
from assay.models import load
from assay.training import Recipe, train

EPS = 0.1
PLAIN = {"arch": "strattack-cnn", "epochs": 4, "batch": 128, "rate": 1e-3}
FITTED = {"magnet": 6, "ape-gan": 3, "defense-gan": 12, "pixel-defend": 3, "detector": 3}
"""Epochs over 12,000 images."""
SPECS = {
    "none": "",
    "distilled": "distilled:temperature=40",
    "jpeg": "jpeg:quality=50",
    "jpeg, by the identity": "jpeg:quality=50,gradient=identity",
    "bits": "bits:bits=3",
    "median": "median:size=3",
    "blur": "blur:sigma=1",
    "tv": "tv:weight=0.2",
    "resize-pad": "resize-pad:least=0.8",
    "rse": "rse",
    "smoothing": "smoothing:sigma=0.1",
    "squeezing": "squeezing:threshold=0.5,bits=3",
    "magnet": "magnet",
    "ape-gan": "ape-gan",
    "pixel-defend": "pixel-defend:eps=0.1",
    "detector": "detector",
    "defense-gan": "defense-gan:steps=60,restarts=2",
}
SLOW = ("pixel-defend", "defense-gan")


def network(name):
    """The network under a defence: plainly trained but for those that train it themselves."""
    if name == "distilled":
        teacher = train(fashion("train", None), Recipe(**PLAIN, objective="clean:temperature=40"), CACHE / "teacher-40")
        objective = f"distillation:teacher={teacher.path},temperature=40"
        return train(fashion("train", None), Recipe(**PLAIN, objective=objective), CACHE / "student-40").model
    if name == "rse":
        recipe = Recipe(**{**PLAIN, "arch": "strattack-cnn+noise"})
        return train(fashion("train", None), recipe, CACHE / "rse").model
    return train(fashion("train", None), Recipe(**PLAIN), CACHE / "plain").model


def accuracy(model, x, y):
    with preserve_state(model), torch.no_grad():
        return (
            100
            * torch.cat(
                [model(part).argmax(1) == labels for part, labels in zip(x.split(64), y.split(64), strict=True)]
            )
            .float()
            .mean()
            .item()
        )


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-n", type=int, default=128)
    parser.add_argument("--eps", type=float, default=EPS)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--only", nargs="*", default=[])
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    eps, data = arguments.eps, fashion("train", 12000)
    for name, spec in SPECS.items():
        if arguments.only and name not in arguments.only:
            continue
        test = fashion("test", min(arguments.n, 48) if name in SLOW else arguments.n)
        x, y = test.images(), test.y
        model = network(name).requires_grad_(False)
        if name in FITTED:
            path = fit_defence(
                name,
                data,
                CACHE / f"fit-{name}",
                model=load(str(CACHE / "plain/model.safetensors")),
                attack=assay.PGD(eps, steps=10),
                epochs=FITTED[name],
                progress=lambda *now, name=name: print(name, *now, flush=True),
            )
            kind, _, more = spec.partition(":")
            spec = f"{kind}:path={path}" + (f",{more}" if more else "")
        defended = defend(model, spec) if spec else model
        steps = 40 if name in SLOW else arguments.steps
        plain = assay.PGD(eps, steps=steps)
        strong = assay.Cascade((assay.APGD(eps, steps=steps), assay.APGD(eps, steps=steps, loss="dlr", targets=3)))
        if name in SLOW:  # on what survives: many small steps, where the purified image moves in jumps
            strong = assay.Cascade((*strong.attacks, assay.PGD(eps, steps=300, loss="dlr", step_size=eps / 8)))
        began = time.perf_counter()
        bare = assay.attack(model, x, y, plain, preflight=False, stop="never")
        how = adaptation_of(defended)
        if how is None:
            found = assay.attack(model, x, y, strong, preflight=False)
        else:
            attack = how.adapt(strong)
            found = assay.attack(defended, x, y, attack, surrogate=how.surrogate, test=how.test, preflight=False)
        row = {
            "defence": name if eps == EPS else f"{name} at {eps:g}",
            "spec": SPECS[name] or "none",
            "eps": eps,
            "n": len(test),
            "clean": accuracy(defended, x, y),
            "plain": min(accuracy(defended, bare.images, y), accuracy(defended, x, y)),
            "adaptive": 100 * found.robust_accuracy,
            "how": "" if how is None else how.how,
            "seconds": round(time.perf_counter() - began, 1),
        }
        row = {k: round(v, 1) if isinstance(v, float) and k != "eps" else v for k, v in row.items()}
        print(row, flush=True)
        record("defences", {"rows": merged("defences", [row], "defence")})


if __name__ == "__main__":
    torch.manual_seed(0)
    main()

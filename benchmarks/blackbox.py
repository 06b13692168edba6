"""Attacks by queries beside those of foolbox and ART: queries to the first success, distances at equal queries."""

import argparse
import time
import warnings

import numpy as np
import torch
from common import fashion, merged, models, record

import assay


class Asked(torch.nn.Module):
    """The model, with a count of the images each sample was asked about (peers attack one sample at a time here)."""

    def __init__(self, model):
        super().__init__()
        self.model, self.count = model, 0

    def forward(self, x):
        self.count += len(x)
        return self.model(x.float())


def foolbox_hsj(model, x, y, steps):
    import foolbox as fb

    wrapped = fb.PyTorchModel(model, bounds=(0, 1), device="cpu")
    attack = fb.attacks.HopSkipJumpAttack(steps=steps, stepsize_search="geometric_progression")
    return attack(wrapped, x, y, epsilons=None)[0]


def art_attack(kind, model, x, y, **settings):
    from art.attacks import evasion
    from art.estimators.classification import PyTorchClassifier

    wrapped = PyTorchClassifier(model, torch.nn.CrossEntropyLoss(), tuple(x.shape[1:]), 10, clip_values=(0, 1))
    labels = np.eye(10, dtype=np.float32)[y.numpy()] if kind == "SimBA" else y.numpy()
    return torch.from_numpy(getattr(evasion, kind)(wrapped, **settings).generate(x.numpy(), labels))


def one_by_one(run, model, x, y):
    images, queries = [], []
    for i in range(len(x)):
        asked = Asked(model).eval()
        images.append(run(asked, x[i : i + 1], y[i : i + 1]))
        queries.append(asked.count)
    return torch.cat(images), np.array(queries)


CASES = {
    "Square linf": (
        lambda: assay.Square(0.05, queries=500),
        "linf",
        [("art", lambda m, x, y: art_attack("SquareAttack", m, x, y, eps=0.05, max_iter=500, verbose=False))],
    ),
    "HopSkipJump l2": (
        lambda: assay.HopSkipJump(10),
        "l2",
        [
            ("art", lambda m, x, y: art_attack("HopSkipJump", m, x, y, max_iter=10, verbose=False)),
            ("foolbox", lambda m, x, y: foolbox_hsj(m, x, y, 10)),
        ],
    ),
    "SimBA": (
        lambda: assay.SimBA(queries=2000),
        "l2",
        [
            (
                "art",
                lambda m, x, y: art_attack(
                    "SimBA",
                    torch.nn.Sequential(m, torch.nn.Softmax(1)),
                    x,
                    y,
                    epsilon=0.2,
                    max_iter=2000,
                    verbose=False,
                ),
            )
        ],
    ),
}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-n", type=int, default=32)
    parser.add_argument("--only", default="", help="part of a name")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    model = models("plain")["plain"].eval()
    data = fashion("test", 2 * arguments.n)
    x, y = data.images(), data.y
    with torch.no_grad():
        right = model(x).argmax(1) == y
    x, y = x[right][: arguments.n], y[right][: arguments.n]
    rows = []
    for name, (make, norm, peers) in CASES.items():
        if arguments.only not in name:
            continue
        began = time.perf_counter()
        outcome = assay.attack(model, x, y, make(), preflight=False)
        mine = {
            "library": "assay",
            "images": outcome.images,
            "queries": outcome.forwards.numpy(),
            "seconds": time.perf_counter() - began,
        }
        found = [mine]
        for library, run in peers:
            began = time.perf_counter()
            images, queries = one_by_one(run, model, x, y)
            found.append(
                {"library": library, "images": images, "queries": queries, "seconds": time.perf_counter() - began}
            )
        for one in found:
            with torch.no_grad():
                hit = model(one["images"].float()).argmax(1) != y
            order = {"linf": float("inf"), "l2": 2}[norm]
            length = torch.linalg.vector_norm((one["images"] - x).double().flatten(1), ord=order, dim=1)
            spent = one["queries"][hit.numpy()]
            rows.append(
                {
                    "attack": name,
                    "library": one["library"],
                    "success": hit.float().mean().item(),
                    "queries_median": float(np.median(spent)) if len(spent) else None,
                    "queries_90": float(np.quantile(spent, 0.9)) if len(spent) else None,
                    "median": length[hit].median().item() if bool(hit.any()) else None,
                    "seconds": round(one["seconds"], 1),
                }
            )
            print(rows[-1], flush=True)
        record("blackbox", {"n": len(y), "rows": merged("blackbox", rows, "attack")})


if __name__ == "__main__":
    main()

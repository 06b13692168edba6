"""Both ends of robust accuracies: networks trained for certificates, one trained by attacks, and auto_LiRPA's bounds.

python certify.py --mnist npz:mnist.npz                     # train, bound, attack; seconds a sample
python certify.py --only peer                               # bounds and seconds beside auto_LiRPA 0.3, in one process

auto_LiRPA 0.3 (PyPI) wants torch below 1.13; for the comparison alone, three private functions that it used are put in
their place (`_peer`). Install it by ``pip install --no-deps auto_LiRPA==0.3 appdirs``.
"""

import argparse
import importlib
import json
import sys
import time
import types
from functools import partial

import numpy as np
import torch
from common import CACHE, FASHION, merged, record

import assay
from assay.certify.backward import form_below, least_of
from assay.certify.bounding import best_margins
from assay.certify.interval import intervals
from assay.certify.linear_bounds import Refined, margins
from assay.certify.region import region_of
from assay.certify.slopes import Search
from assay.certify.tracing import trace
from assay.data import load as load_data
from assay.parts.balls import Ball
from assay.training import Recipe, train

NETWORKS = {
    "MNIST 0.1, IBP": ("mnist", 0.1, "ibp"),
    "MNIST 0.1, SABR": ("mnist", 0.1, "sabr:part=0.4"),
    "MNIST 0.3, IBP": ("mnist", 0.3, "ibp"),
    "MNIST 0.3, SABR": ("mnist", 0.3, "sabr:part=0.6"),
    "Fashion-MNIST 0.1, IBP": ("fashion", 0.1, "ibp"),
    "Fashion-MNIST 0.1, SABR": ("fashion", 0.1, "sabr:part=0.4"),
}


def trained(name, sources, epochs):
    """A small network, trained once."""
    data, eps, objective = NETWORKS[name]
    images = load_data(sources[data], split="train")
    recipe = Recipe(
        arch="conv-small",
        normalize="none",
        objective=objective,
        eps=eps,
        epochs=epochs,
        batch=128,
        rate=1e-3,
        milestones=(round(0.8 * epochs), round(0.92 * epochs)),
    )
    folder = CACHE / f"certified-{name.replace(' ', '-').replace(',', '')}-{epochs}"
    return train(images, recipe, folder, progress=lambda e: print(name, e, flush=True))


def bracket(name, sources, epochs, n, certify):
    """Clean, attacked and certified accuracy of a network."""
    data, eps, _ = NETWORKS[name]
    network = trained(name, sources, epochs)
    test = load_data(sources[data], split="test", limit=n)
    x, y = test.images(), test.y
    attacked = assay.attack(network.model, x, y, assay.Standard(eps))
    certified = assay.certified(network.model, x, y, certify, eps=eps)
    both = (attacked.status == int(assay.Status.BROKEN)) & certified.certified
    return {
        "case": name,
        "n": n,
        "epochs": epochs,
        "clean, per cent": round(100 * attacked.clean_accuracy, 2),
        "attacked, per cent": round(100 * attacked.robust_accuracy, 2),
        "certified, per cent": round(100 * certified.certified_accuracy, 2),
        "open, points": round(100 * (attacked.robust_accuracy - certified.certified_accuracy), 2),
        "contradictions": int(both.sum()),
        "seconds a sample, certified": round(float(certified.seconds.mean()), 4),
        "certifiers": list(certified.certifiers),
        **of_all(network.model, load_data(sources[data], split="test"), eps),
    }


def with_all(name, sources, epochs):
    """The row that is recorded, with what all test images say; None where there is no row."""
    row = next((row for row in merged("certify", [], "case") if row["case"] == name), None)
    data, eps, _ = NETWORKS[name]
    network = trained(name, sources, epochs)
    return None if row is None else row | of_all(network.model, load_data(sources[data], split="test"), eps)


def of_all(model, test, eps):
    """Clean and certified accuracy on all test images, by the two certifiers that are quick."""
    certificates = assay.certified(model, test.images(), test.y, "ibp, crown-ibp", eps=eps, batch=250)
    clean = float((certificates.predicted == test.y).double().mean())
    return {
        "clean, % of all test images": round(100 * clean, 2),
        "certified, % of all": round(100 * certificates.certified_accuracy, 2),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mnist", help="where MNIST comes from, such as npz:mnist.npz")
    parser.add_argument("--only", nargs="*", default=[])
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("-n", type=int, default=1000)
    parser.add_argument("--certify", default="ibp, crown-ibp, crown")
    parser.add_argument("--whole", action="store_true", help="only add what all test images say to what is recorded")
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    sources = {"mnist": arguments.mnist, "fashion": FASHION}
    for name in NETWORKS:
        if (arguments.only and name not in arguments.only) or sources[NETWORKS[name][0]] is None:
            continue
        row = with_all(name, sources, arguments.epochs) if arguments.whole else None
        row = row or bracket(name, sources, arguments.epochs, arguments.n, arguments.certify)
        print(json.dumps(row), flush=True)
        keep(row)
    if not arguments.only or "peer" in arguments.only:
        for row in beside_peer():
            print(json.dumps(row), flush=True)
            keep(row)


def keep(row):
    record("certify", {"rows": merged("certify", [row], "case")})


def _peer():
    """auto_LiRPA, with what its release of 2022 used of NumPy and PyTorch and is not there any more."""
    import torch.onnx.symbolic_helper as helper

    sets = types.ModuleType("numpy.lib.arraysetops")
    sets.isin = np.isin
    sys.modules.setdefault("numpy.lib.arraysetops", sets)
    helper._set_opset_version = lambda version: None
    torch._C.Node.__getitem__ = lambda node, key: getattr(node, node.kindOf(key))(key)
    return importlib.import_module("auto_LiRPA")


_DENSE = {"sparse_features_alpha": False, "sparse_spec_alpha": False}
"""With its sparse slopes the optimised bounds of this release raise a mismatch of shapes."""


def beside_peer(count=8, eps=0.02, rounds=3):
    """Mean bound and seconds of each method, in float32, ours without the margin for rounding, in turns."""
    peer = _peer()
    torch.manual_seed(0)
    layers = (torch.nn.Conv2d(1, 16, 4, 2, 1), torch.nn.ReLU(), torch.nn.Conv2d(16, 32, 4, 2, 1), torch.nn.ReLU())
    model = torch.nn.Sequential(
        *layers, torch.nn.Flatten(), torch.nn.Linear(32 * 49, 100), torch.nn.ReLU(), torch.nn.Linear(100, 10)
    ).eval()
    x = torch.rand(count, 1, 28, 28) * 0.6 + 0.2
    y = model(x).argmax(1)
    network = trace(model, (1, 28, 28), torch.float32)
    region, functions, last = region_of(Ball("linf", eps), x), margins(network, y), len(network.nodes) - 1
    refined, moved = Refined(network, region), Refined(network, region, Search(13))  # it moves the inner slopes as well
    ours = {
        "IBP": lambda: form_below(network, last, functions, intervals(network, region, unit=0.0), stop=True).constant,
        "CROWN-IBP": lambda: least_of(network, last, functions, intervals(network, region, unit=0.0), region),
        "CROWN": lambda: least_of(
            network, last, functions, intervals(network, region, unit=0.0, refine=refined), region
        ),
        "CROWN-Optimized": lambda: best_margins(
            network, y, intervals(network, region, unit=0.0, refine=refined), region, Search()
        ),
        "CROWN-Optimized, ours with inner=true": lambda: best_margins(
            network, y, intervals(network, region, unit=0.0, refine=moved), region, Search()
        ),
    }
    ball, options = (
        peer.PerturbationLpNorm(norm=np.inf, eps=eps),
        {"iteration": 20, "fix_intermediate_layer_bounds": True},
    )

    def theirs(bounded, method):
        bounds = bounded.compute_bounds(x=(peer.BoundedTensor(x, ball),), C=functions, method=method, bound_upper=False)
        return bounds[0]

    for method, bound in ours.items():
        seconds, least = {"ours": [], "theirs": []}, {}
        for _ in range(rounds):
            fresh = peer.BoundedModule(
                model, x, bound_opts={"optimize_bound_args": options, **_DENSE}
            )  # it keeps slopes
            for who, call in (("ours", bound), ("theirs", partial(theirs, fresh, method.partition(",")[0]))):
                began = time.perf_counter()
                with torch.set_grad_enabled("Optimized" in method):
                    least[who] = call().detach()
                seconds[who].append(time.perf_counter() - began)
        yield {
            "case": f"beside auto_LiRPA, {method}",
            "n": count,
            "mean bound, ours": round(float(least["ours"].mean()), 5),
            "mean bound, theirs": round(float(least["theirs"].mean()), 5),
            "ours looser by at most": round(float((least["theirs"] - least["ours"]).max()), 5),
            "seconds, ours over theirs": round(min(seconds["ours"]) / min(seconds["theirs"]), 2),
        }


if __name__ == "__main__":
    main()

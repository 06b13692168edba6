"""Every attack against certificates: on the networks of certify.py no image lies nearer than what is certified.

python certify_attacks.py --mnist npz:mnist.npz             # after certify.py, whose networks these are
"""

import argparse
import inspect
import json
import time

import torch
from common import CACHE, FASHION, merged, record

import assay
from assay.attacks.registry import ATTACKS, make
from assay.data import load as load_data
from assay.models.load import load as load_model
from assay.parts.balls import Ball
from certify import NETWORKS

BOUNDS = "ibp, crown-ibp"


def spec_of(name, passes):
    """An attack with an effort that two hundred images can bear, and what it needs to be built."""
    known = inspect.signature(ATTACKS[name].make).parameters
    few = [f"queries={passes}"] if "queries" in known else []
    few += {"patch": ["side=5"], "sparse": ["eps=30"]}.get(name, [])
    return f"{name}:{','.join(few)}" if few else name


def centre(x):
    """The middle of each image as its foreground."""
    mask = torch.zeros_like(x[:, :1])
    mask[..., 7:21, 7:21] = 1
    return mask


def rows(name, model, x, y, eps, passes, kept):
    """Of each attack how many it broke, and how many of these are certified as far as their images lie, or further."""
    sure = assay.certified(model, x, y, f"{BOUNDS}, crown", eps=eps).certified
    for attack in ATTACKS:
        case = f"{name}: {attack}"
        if case in kept:
            continue
        built, began = make(spec_of(attack, passes), eps=eps), time.monotonic()
        needs = getattr(getattr(built, "geometry", None), "needs", ())
        mask = centre(x) if "dual" in attack or "mask" in needs else None
        outcome = assay.attack(model, x, y, built, mask=mask, preflight=False, max_forwards=passes)
        at = (outcome.status == int(assay.Status.BROKEN)).nonzero().squeeze(1)
        distance = outcome.norm("linf")[at]
        inside = assay.certified(model, x[at], y[at], BOUNDS, eps=Ball("linf", 1.0), scale=distance).certified
        within = sure[at] & (distance <= eps)
        yield {
            "case": case,
            "n": len(y),
            "broken": len(at),
            "certified, per cent": round(100 * float(sure.double().mean()), 1),
            "contradictions": int((inside | within).sum()),
            "seconds": round(time.monotonic() - began, 1),
        }


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mnist", required=True, help="where MNIST comes from, such as npz:mnist.npz")
    parser.add_argument("--only", nargs="*", default=[])
    parser.add_argument("-n", type=int, default=200)
    parser.add_argument("--passes", type=int, default=300, help="most forward passes of a sample")
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    kept = {row["case"] for row in merged("certify_attacks", [], "case")}
    for name, (data, eps, _) in NETWORKS.items():
        folders = sorted(CACHE.glob(f"certified-{name.replace(' ', '-').replace(',', '')}-*/model.safetensors"))
        if not folders or (arguments.only and name not in arguments.only):
            print(f"{name}: not trained, or not asked for", flush=True)
            continue
        test = load_data({"mnist": arguments.mnist, "fashion": FASHION}[data], split="test", limit=arguments.n)
        model = load_model(str(folders[-1])).eval()
        for row in rows(name, model, test.images(), test.y, eps, arguments.passes, kept):
            print(json.dumps(row), flush=True)
            record("certify_attacks", {"rows": merged("certify_attacks", [row], "case")})


if __name__ == "__main__":
    main()

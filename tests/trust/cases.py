"""Honest models, and planted failures: fake defences and broken evaluations."""

from functools import lru_cache

import torch
from torch import nn

from assay.attacks.plan import plan
from assay.data import Dataset, load
from assay.defences import adaptation_of, defend
from assay.engine.api import attack
from assay.models import build
from assay.training import Recipe, train
from assay.trust import AttackResult, CheckContext

EPS = 4 / 255
ATTACKS = ("apgd:steps=60", "apgd:steps=60,loss=dlr", "square:queries=300")


@lru_cache
def data(count=64):
    found = load("scenes:size=16,count=1200", limit=count)
    return found.images(), found.y


@lru_cache
def trained(objective="clean", arch="tiny-cnn", epochs=5):
    import tempfile

    images = load("scenes:size=16,count=1200", split="train")
    robust = {} if objective == "clean" else {"eps": EPS, "attack_steps": 3}
    recipe = Recipe(arch=arch, objective=objective, epochs=epochs, batch=64, rate=3e-3, **robust)
    return train(images, recipe, tempfile.mkdtemp()).model.eval()


def examined(model, attacks=ATTACKS, *, eps=EPS, adapted=True, norm="linf", count=64, **more):
    """A model after the attacks of an evaluation, as the checks look at it."""
    x, y = more.pop("x", data(count)[0]), more.pop("y", data(count)[1])
    declared = adaptation_of(model)
    how = declared if adapted else None
    results = []
    for spec in attacks:
        planned = plan(spec, eps=eps, norm=norm) if isinstance(spec, str) else spec
        what = planned.attack if how is None else how.adapt(planned.attack)
        outcome = attack(
            model,
            x,
            y,
            what,
            preflight=False,
            errors="record",
            surrogate=None if how is None else how.surrogate,
            test=None if declared is None else declared.test,
            mask=more.get("masks"),
        )
        results.append(AttackResult(planned, outcome, lambda i, o=outcome: o.images[i], adapted=adapted))
    recorded = dict.fromkeys(("model", "data", "code", "torch", "seed"), "known")
    names = tuple(str(i) for i in range(int(y.max()) + 1))
    whole = more.pop("whole", None) or Dataset(x if x.dtype is torch.uint8 else x.float(), y, names)
    return CheckContext(model, x, y, tuple(results), recorded=recorded, whole=whole, **more)


def linear():
    """A linear classifier, fitted."""
    x, y = data(600)
    model = nn.Sequential(nn.Flatten(), nn.Linear(x[0].numel(), 8))
    rule = torch.optim.Adam(model.parameters(), lr=1e-3, weight_decay=1e-3)
    for _ in range(150):
        rule.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()
        rule.step()
    return model.eval()


class Writing(nn.Module):
    """Normalises the very tensor that it is given."""

    def __init__(self):
        super().__init__()
        self.model = trained()

    def forward(self, x):
        return self.model(x.sub_(0.01).add_(0.01))


HONEST = {
    "clean": lambda: trained(),
    "pgd-at": lambda: trained("pgd-at"),
    "without normalisation layers": lambda: trained(arch="strattack-cnn", epochs=12),
    "linear": linear,
    "working in place": Writing,
    "jpeg, attacked past it": lambda: defend(trained(), "jpeg:quality=60"),
    "smoothed, attacked in expectation": lambda: defend(trained(), "smoothing:sigma=0.03"),
}


def initial():
    return build("tiny-cnn", channels=3, classes=8, size=16).eval()

"""Studies made by hand, for the tests of the report."""

import torch

from assay.core.outcome import Outcome, Status
from assay.store.results import CellResult, Study

M, B, S, INVALID, ERROR, N = Status


def images(n, channels=3, side=8):
    return torch.linspace(0, 1, n * channels * side * side).reshape(n, channels, side, side)


def outcome(codes, channels=3, side=8, classes=3, eps=8 / 255, **changed):
    """An outcome whose samples ended as ``codes`` say; each attacked one costs 3 forwards and 2 backwards."""
    n = len(codes)
    clean = images(n, channels, side)
    status = torch.tensor([int(code) for code in codes], dtype=torch.long)
    y = torch.arange(n) % classes
    attacked = ((status == int(B)) | (status == int(S))).long()
    sign = torch.where(torch.arange(side) % 2 == 0, 1.0, -1.0)
    found = (clean + eps * sign * attacked.reshape(n, 1, 1, 1)).clamp(0, 1)
    predicted_clean = torch.where(status == int(M), (y + 1) % classes, y)
    predicted_clean[status == int(N)] = -1
    predicted = torch.where(status == int(B), (y + 1) % classes, predicted_clean)
    made = {
        "clean": clean,
        "images": found,
        "y": y,
        "target": torch.full((n,), -1),
        "status": status,
        "predicted_clean": predicted_clean,
        "predicted": predicted,
        "margin": torch.zeros(n),
        "size": torch.ones(n),
        "steps": 2 * attacked,
        "forwards": 3 * attacked,
        "backwards": 2 * attacked,
        "checks": torch.ones(n).long(),
        "restart": torch.full((n,), -1),
        "stage": torch.full((n,), -1),
    }
    return Outcome(**(made | changed))


def study(*cells, channels=3, side=8, **changed):
    n = len(cells[0].outcome) if cells else changed.pop("n", 4)
    made = {
        "title": "A study",
        "dataset": "made",
        "classes": ("cat", "dog", "bird"),
        "x": images(n, channels, side),
        "y": torch.arange(n) % 3,
        "masks": None,
        "saliency": None,
        "cells": cells,
        "command": "assay evaluate",
        "facts": {"torch": "2.13"},
    }
    return Study(**(made | changed))


def cell(codes, model="plain", attack="PGD-40 linf 8/255", family="PGD linf", budget="8/255", **named):
    own = {name: named.pop(name) for name in ("eps", "curve") if name in named}
    return CellResult(model, attack, family, budget, outcome(codes, **named), **own)


def rich(n=12, **changed):
    """Two models, three attacks, a curve, masks and saliency."""
    weak = ([M] + [B] * 5 + [S] * n)[:n]
    strong = ([B, M] + [B] * 9 + [S] * n)[:n]
    square = ([M, M, S, B, INVALID, ERROR, N] + [S] * n)[:n]
    cells = []
    for model, shift in (("plain", 0), ("trained", 2)):
        for eps, codes in ((4, weak), (8, strong)):
            turned = codes[shift:] + codes[:shift]
            cells.append(cell(turned, model, f"PGD {eps}/255", budget=f"{eps}/255", eps=eps / 255, curve="PGD linf"))
        cells.append(cell(square, model, "Square", "Square", "8/255", errors={5: "RuntimeError: out of luck"}))
    masks = torch.zeros(n, 1, 8, 8)
    masks[:, :, 2:5, 3:7] = 1
    return study(*cells, **({"masks": masks, "saliency": images(n, 1)} | changed))

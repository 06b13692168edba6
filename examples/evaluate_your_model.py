"""Break a classifier of your own: any nn.Module that maps images in [0, 1] to logits."""

import torch
from torch import nn

import assay
from assay.data import load
from assay.models import Normalize

# %% Your images and your model. Normalisation belongs in the model.
data = load("scenes:size=16,count=600", split="train")
model = nn.Sequential(
    Normalize(0.5, 0.5),
    nn.Conv2d(3, 16, 3, 2, 1),
    nn.ReLU(),
    nn.Conv2d(16, 32, 3, 2, 1),
    nn.ReLU(),
    nn.Flatten(),
    nn.Linear(512, 8),
)
optimiser = torch.optim.Adam(model.parameters(), 3e-3)
for _ in range(15):
    for index in torch.randperm(len(data)).split(64):
        loss = nn.functional.cross_entropy(model(data.images(index)), data.y[index])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()

# %% What is odd about it, before anything is attacked.
test = load("scenes:size=16,count=600", limit=64)
x, y = test.images(), test.y
for finding in assay.inspect(model.eval(), x, y):
    print(finding.code, finding.text)

# %% From weak to strong. Each line: robust accuracy, exact interval, the six counts, the cost.
for attack in (
    assay.UniformNoise(8 / 255),
    assay.FGSM(8 / 255),
    assay.PGD(8 / 255, steps=20),
    assay.Cascade((assay.APGD(8 / 255, steps=30), assay.APGD(8 / 255, steps=30, loss="dlr", targets=7))),
):
    print(assay.attack(model, x, y, attack))

# %% The same geometry works with every attack: a dual budget, searched by APGD.
dual = assay.Split(assay.Ball("linf", 4 / 255), assay.Ball("linf", 20 / 255))
outcome = assay.attack(model, x, y, assay.APGD(dual, steps=30), mask=test.masks)
print(outcome)
print(outcome.frame()[0])

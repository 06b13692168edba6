"""The shapes that every part of assay agrees on.

``b`` rows, ``c`` channels, ``h`` height, ``w`` width, ``k`` classes. Images are float in [0, 1];
the model owns its normalisation and returns logits.
"""

from jaxtyping import Bool, Float, Int
from torch import Tensor

Images = Float[Tensor, "b c h w"]
Mask = Float[Tensor, "b 1 h w"]
Logits = Float[Tensor, "b k"]
Labels = Int[Tensor, "b"]
PerRow = Float[Tensor, "b"]
Count = Int[Tensor, "b"]
Flag = Bool[Tensor, "b"]

Eps = float | str
"""A budget in input units ([0, 1]): a number, or a fraction as text, such as ``"8/255"``."""

NORMS = ("linf", "l2", "l1")

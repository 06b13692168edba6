"""The model as another library's attack gets it: in evaluation mode whatever the library does, and counted."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from assay.core.model_calls import Classifier, classify
from assay.core.model_parts import modules_in
from assay.core.model_state import preserve_state
from assay.core.types import Images, Logits


class PeerModel(nn.Module):
    """A classifier that stays in evaluation mode and counts the images that pass forward and backward.

    The library sees the model's parts as submodules, so that it finds devices and layers. Mode and ``requires_grad``
    are put back before every call, so ``train()``, ``eval()`` or ``requires_grad_()`` on the wrapper or on any part
    have no effect on the logits. Images of any floating type and device are converted, and logits are converted back.

    Args:
        model: the classifier.
        dtype: floating type that the classifier expects.
        device: where it runs.

    Attributes:
        forwards: images that passed forward.
        backwards: images whose logits passed a gradient backward.

    Example:
        >>> net = PeerModel(nn.Sequential(nn.Flatten(), nn.Dropout(0.5)).eval(), torch.float32, torch.device("cpu"))
        >>> net.train()(torch.ones(1, 1, 1, 2, dtype=torch.float64)), net.forwards
        (tensor([[1., 1.]], dtype=torch.float64), 1)
    """

    def __init__(self, model: Classifier, dtype: torch.dtype, device: torch.device) -> None:
        super().__init__()
        self.model = model
        self.dtype, self.device = dtype, device
        self.forwards = self.backwards = 0
        # A parameter of our own: libraries read the device of the first one.
        self.anchor = nn.Parameter(torch.zeros(0, dtype=dtype, device=device), requires_grad=False)
        super().train(mode=False)
        roots = modules_in(model)
        self._modes = [(part, part.training) for root in roots for part in root.modules() if hasattr(part, "training")]
        self._frozen = [(p, p.requires_grad) for root in roots for p in root.parameters()]

    def forward(self, x: Images) -> Logits:
        """Logits of some images; both kinds of passes are counted."""
        self.forwards += len(x)
        logits = self.uncounted(x)
        if logits.requires_grad:
            logits.register_hook(self._count_backward)
        return logits.to(x) if x.is_floating_point() else logits

    def uncounted(self, x: Images) -> Logits:
        """Logits in the classifier's own type, on its own device, without a count."""
        self._restore_modes()
        return classify(self.model, x.to(self.device, self.dtype))

    def train(self, mode: bool = True) -> "PeerModel":
        """Do nothing: the model stays in evaluation mode."""
        return self

    def requires_grad_(self, requires_grad: bool = True) -> "PeerModel":
        """Do nothing: the parameters stay frozen."""
        return self

    def _restore_modes(self) -> None:
        for part, mode in self._modes:
            if part.training != mode:
                part.training = mode
        for parameter, flag in self._frozen:
            if parameter.requires_grad != flag:
                parameter.requires_grad_(flag)

    def _count_backward(self, grad: Tensor) -> None:
        self.backwards += len(grad)


@contextmanager
def isolated(model: Classifier) -> Iterator[None]:
    """Undo everything that a library does to a model, also after an exception.

    Beside what `preserve_state` restores these are the values of the parameters and their ``.grad``.

    Args:
        model: the classifier.
    """
    with preserve_state(model):
        parameters = [p for root in modules_in(model) for p in root.parameters()]
        values = [parameter.detach().clone() for parameter in parameters]
        grads = [parameter.grad for parameter in parameters]
        for parameter in parameters:
            parameter.grad = None
        try:
            yield
        finally:
            for parameter, value, grad in zip(parameters, values, grads, strict=True):
                parameter.grad = None
                parameter.requires_grad = False
                if not torch.equal(parameter, value):
                    parameter.data.copy_(value)
                parameter.grad = grad

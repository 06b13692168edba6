"""Models that can only be asked: any function from NumPy images to scores or labels, ONNX files, services."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from assay.core.types import Images, Logits
from assay.models.onnx import create_runner, named_files
from assay.util.text import plain
from assay.util.validate import described, one_of, reject, whole

GIVES = ("logits", "probabilities", "labels")
LAYOUTS = ("nchw", "nhwc")
_FLOOR = 1e-12
_SLACK = 1e-3
_MOST_CLASSES = 1_000_000


@dataclass
class QueryModel:
    """A classifier behind a function, without gradients; every image it is asked about counts.

    ``assay.attack(..., max_forwards=)`` limits the queries of each sample. Besides the attack's own, assay asks about
    each sample once before the attack, about each adversarial image once to measure it, and about a few images three
    times for the preflight (``preflight=False`` for none). ``most`` is a limit on all of it.

    Args:
        ask: from images, float32 in [0, 1], to scores ``(b, k)`` or labels ``(b,)``, as NumPy arrays. The images are a
            copy that it may change; what it returns is copied.
        gives: ``"logits"``, ``"probabilities"`` or ``"labels"``.
        classes: number of classes, needed with labels.
        layout: ``"nchw"`` or ``"nhwc"``, the order of the axes that ``ask`` wants.
        most: the most queries in all; None for no limit.

    Attributes:
        queries: images asked about so far.

    Example:
        >>> model = QueryModel(lambda x: x.mean((1, 2, 3)) > 0.5, gives="labels", classes=2)
        >>> model(torch.full((1, 1, 2, 2), 0.9)).tolist(), model.queries
        ([[0.0, 1.0]], 1)
    """

    ask: Callable[[Any], Any]
    gives: str = "logits"
    classes: int | None = None
    layout: str = "nchw"
    most: int | None = None
    queries: int = field(default=0, init=False)
    differentiable: bool = field(default=False, init=False)

    def __post_init__(self) -> None:
        if not callable(self.ask):
            reject("ask", "a callable from NumPy images to scores or labels", self.ask, error=TypeError)
        one_of("gives", self.gives, GIVES)
        one_of("layout", self.layout, LAYOUTS)
        if self.gives == "labels" and whole("classes", self.classes, least=2) > _MOST_CLASSES:
            reject("classes", f"at most {_MOST_CLASSES:,} classes", self.classes)
        if self.most is not None:
            whole("most", self.most)

    def __call__(self, x: Images) -> Logits:
        """Ask about images.

        Args:
            x: ``(b, c, h, w)`` in [0, 1], on any device.

        Returns:
            Logits, ``(b, k)``: as given, log-probabilities, or 1 for the label and 0 for all else.

        Raises:
            RuntimeError: the limit on the whole is used up; the message says how many were asked.
            TypeError: the function returned something that is no array of numbers.
            ValueError: the function returned another shape, or labels or probabilities out of range.
        """
        if self.most is not None and self.queries + len(x) > self.most:
            raise RuntimeError(f"{self.queries} of at most {self.most} queries are used; {len(x)} more were asked for")
        images = x.detach().float().cpu()
        ordered = images.permute(0, 2, 3, 1) if self.layout == "nhwc" else images
        self.queries += len(x)
        answer = _array(self.ask(np.array(ordered.numpy(), order="C", copy=True)))
        return self._logits(answer, len(x)).to(x)

    def _logits(self, answer: NDArray[Any], count: int) -> Tensor:
        if self.gives == "labels":
            return _one_hot(answer, count, int(self.classes or 0))
        if count == 1 and answer.ndim == 1 and len(answer) > 1:
            answer = answer[None]  # a function that squeezes its answer
        if answer.ndim != 2 or len(answer) != count or answer.shape[1] < 2:
            hint = ' (for labels: gives="labels", classes=k)' if answer.ndim == 1 else ""
            reject("ask", f"scores of shape ({count}, k){hint}", described(f"shape {answer.shape}"))
        if self.classes is not None and answer.shape[1] != self.classes:
            reject("ask", f"scores of {self.classes} classes", described(f"shape {answer.shape}"))
        scores = torch.from_numpy(answer.astype(np.float32))
        if self.gives != "probabilities":
            return scores
        outside = answer[(answer < -_SLACK) | (answer > 1 + _SLACK)]
        if outside.size:
            reject(
                "ask",
                'probabilities in [0, 1] (for other scores: gives="logits")',
                described(f"{outside.size} values outside, such as {outside.flat[0]:g}"),
            )
        return scores.clamp_min(_FLOOR).log()


def _array(answer: Any) -> NDArray[Any]:
    """What a function returned, as an array of numbers of its own."""
    expected = "a NumPy array of numbers, one row an image"
    if isinstance(answer, Tensor):
        answer = answer.detach().cpu()
        answer = (answer.float() if answer.dtype == torch.bfloat16 else answer).numpy()
    try:
        array = np.array(np.asarray(answer))
    except Exception as error:
        reject("ask", expected, described(f"{type(answer).__name__} ({plain(str(error), 100)})"), error=TypeError)
    if array.dtype.kind not in "biuf":
        reject("ask", expected, described(f"{type(answer).__name__}, an array of dtype {array.dtype}"), error=TypeError)
    return array


def _one_hot(labels: NDArray[Any], count: int, classes: int) -> Tensor:
    """Labels as logits: 1 for the label and 0 for all else."""
    if count == 1 and labels.ndim == 0:
        labels = labels[None]
    if labels.shape != (count,):
        hint = ' (for scores: gives="logits")' if labels.ndim == 2 else ""
        reject("ask", f"labels of shape ({count},)", described(f"shape {labels.shape}{hint}"))
    if labels.dtype.kind == "f":
        reject("ask", "labels as whole numbers (answer.astype(int))", described(f"dtype {labels.dtype}"))
    if labels.size and not 0 <= int(labels.min()) <= int(labels.max()) < classes:
        reject(
            "ask",
            f"labels from 0 to {classes - 1} (classes={classes})",
            described(f"labels from {labels.min()} to {labels.max()}"),
        )
    return torch.nn.functional.one_hot(torch.from_numpy(labels.astype(np.int64)), classes).float()


def from_onnx(
    path: str | Path, *, gives: str = "logits", layout: str = "nchw", threads: int = 0, external: bool = False
) -> QueryModel:
    """A classifier in an ONNX file, run by ONNX Runtime (``pip install assay[onnx]``).

    A file may name others that hold its weights, anywhere on this machine; of somebody else's file that is not read.

    Args:
        path: the file; its one input takes images in [0, 1], its first output is what ``gives`` says. An input with
            a fixed number of images a call gets them in groups of that size.
        gives: ``"logits"`` or ``"probabilities"``.
        layout: ``"nchw"`` or ``"nhwc"``.
        threads: threads of the runtime; 0 for its own choice.
        external: read weights from other files, too, where the file names some.

    Raises:
        ImportError: ONNX or ONNX Runtime is not installed.
        FileNotFoundError: no such file.
        ValueError: not an ONNX file, or one that names other files, without ``external``.
    """
    try:
        import onnx  # noqa: F401
        import onnxruntime
    except Exception as failure:
        raise ImportError(
            f"reading ONNX files needs onnx and onnxruntime (pip install 'assay[onnx]'): {failure}"
        ) from failure
    if not Path(path).is_file():
        raise FileNotFoundError(f"path: no file {path}")
    named = named_files(Path(path))
    if named and not external:
        others = described(f"one that names {len(named)} others, such as {named[0]!r}")
        reject("path", "a file that holds its weights itself, or external=True for one whose source you trust", others)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = whole("threads", threads)
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as failure:  # its errors have no public names
        reason = " ".join(str(failure).split())[:120]
        reject("path", "an ONNX file that ONNX Runtime can run", described(f"{Path(path).name} ({reason})"))
    return QueryModel(create_runner(session), gives=gives, layout=layout)

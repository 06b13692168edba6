"""ONNX files: external data files, and running a session."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from assay.util.validate import described, reject


def named_files(path: Path) -> list[str]:
    """The other files that an ONNX file names as the places of its weights, as it names them.

    Args:
        path: the file.

    Raises:
        ImportError: ONNX is not installed.
        ValueError: not an ONNX file.

    Source: onnx/docs/ExternalData.md. The check of such names in onnx had to be mended more than once (CVE-2022-25882,
    CVE-2024-27318, CVE-2026-27489), so no file is opened on the word of another one.
    """
    import onnx

    try:
        model = onnx.load(str(path), format="protobuf", load_external_data=False)
    except Exception as failure:  # the decoder's errors have no public names
        reject("path", "an ONNX file", described(f"{path.name} ({str(failure)[:80]})"))
    external = onnx.TensorProto.EXTERNAL
    tensors = (tensor for tensor in _tensors(model, onnx.TensorProto) if tensor.data_location == external)
    names = (entry.value for tensor in tensors for entry in tensor.external_data if entry.key == "location")
    return list(dict.fromkeys(names))


def _tensors(message: Any, kind: type) -> Iterator[Any]:
    """Every tensor anywhere inside a message: initialisers, attributes, inner graphs, functions."""
    if isinstance(message, kind):
        yield message
        return
    for field, value in message.ListFields():
        if field.message_type is not None:
            for part in (value,) if hasattr(value, "ListFields") else value:
                yield from _tensors(part, kind)


_TYPES = {"tensor(float)": np.float32, "tensor(float16)": np.float16, "tensor(double)": np.float64}


def create_runner(session: Any) -> Callable[[NDArray[Any]], NDArray[Any]]:
    """A function from images to the first output of an ONNX Runtime session.

    Where the input has a fixed number of images a call, they are passed on in groups of that size; the last group is
    filled up by repeating its last image.

    Args:
        session: an ``onnxruntime.InferenceSession`` with one input of four axes.

    Raises:
        ValueError: the session has another number of inputs, or one that is no batch of images; or, when called,
            images of another shape than it takes.
    """
    inputs = session.get_inputs()
    if len(inputs) != 1 or inputs[0].type not in _TYPES or len(inputs[0].shape) != 4:
        came = ", ".join(f"{entry.name}: {entry.type} {entry.shape}" for entry in inputs)
        reject("path", "an ONNX model with one input of four axes, float images", described(came))
    name, shape, kind = inputs[0].name, inputs[0].shape, _TYPES[inputs[0].type]

    def ask(images: NDArray[Any]) -> NDArray[Any]:
        if any(isinstance(want, int) and want != got for want, got in zip(shape[1:], images.shape[1:], strict=True)):
            reject(
                "x",
                f"images of shape {tuple(shape[1:])}, the ONNX model's input (mind layout=)",
                described(f"shape {images.shape[1:]}"),
            )
        size = shape[0] if isinstance(shape[0], int) else max(len(images), 1)
        parts = []
        for start in range(0, max(len(images), 1), size):
            part = images[start : start + size].astype(kind)
            count = len(part)
            filler = np.repeat(part[-1:] if count else np.zeros((1, *part.shape[1:]), kind), size - count, axis=0)
            parts.append(np.asarray(session.run(None, {name: np.concatenate((part, filler))})[0])[:count])
        return np.concatenate(parts)

    return ask

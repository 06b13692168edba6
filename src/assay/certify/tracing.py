"""Trace a PyTorch classifier into the graph that bounds work on."""

import copy
import logging
import operator
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr
from dataclasses import dataclass, field
from functools import lru_cache
from io import StringIO
from typing import Any

import torch
from torch import Tensor, nn

from assay.certify.draft import Call, Draft, Unbounded, Value
from assay.certify.layers import LAYERS
from assay.certify.network import Input, Network
from assay.core.call_context import in_neutral_context
from assay.core.model_calls import select_output
from assay.core.model_state import model_device, preserve_state
from assay.models.load import digest
from assay.util.validate import described, reject

KNOWN = "layers that bounds know: linear, convolution, normalisation, pooling, ReLU and its like, sum, concatenation"


_ONE_EXPORTS = threading.Lock()
"""PyTorch's export is for one thread at a time."""


class _Logits(nn.Module):
    """A model by the part of its output that holds the logits."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        return select_output(self.model(x.clone()))[0]  # some models write to their input


@in_neutral_context
def trace(
    model: nn.Module, shape: Sequence[int], dtype: torch.dtype = torch.float64, *, rectifiers_alone: bool = False
) -> Network:
    """The network that a classifier is in evaluation mode.

    Args:
        model: maps images to logits; it is copied, not changed.
        shape: of an image, ``(c, h, w)``.
        dtype: of the numbers that bounds are computed in.
        rectifiers_alone: write maxima as rectifiers, which can be split; bounds are then a little different.

    Raises:
        ValueError: a layer that is not bounded, by its name; a model that cannot be written down as such layers.
    """
    device = model_device(model, torch.device("cpu"))
    return _traced(_Wanted(digest(model), tuple(shape), dtype, str(device), rectifiers_alone, model))


@dataclass(frozen=True)
class _Wanted:
    """A model by its digest, and what of it is wanted."""

    digest: str
    shape: tuple[int, ...]
    dtype: torch.dtype
    device: str
    rectifiers_alone: bool
    model: nn.Module = field(compare=False)


@lru_cache(maxsize=2)
def _traced(wanted: _Wanted) -> Network:
    """The network that is wanted; the last few are kept, as a look at a model costs more than most bounds."""
    program = _export(wanted.model, wanted.shape)
    draft = Draft(wanted.dtype, torch.device(wanted.device), wanted.rectifiers_alone)
    network = _written(program, draft, wanted.shape, program.state_dict)
    _compare(network, program.module(), wanted.shape)
    return network


def live_network(model: nn.Module, shape: Sequence[int]) -> Network:
    """The network that a model in training is now, in evaluation mode: gradients go back to its parameters.

    What the model does is looked at once; each call reads its parameters and buffers anew.

    Args:
        model: maps images to logits.
        shape: of an image, ``(c, h, w)``.

    Raises:
        ValueError: as of `trace`.
    """
    tensors = {f"model.{name}": own for name, own in (*model.named_parameters(), *model.named_buffers())}
    draft = Draft(torch.float32, model_device(model, torch.device("cpu")))
    return _written(_program(model, tuple(shape)), draft, shape, tensors)


@lru_cache(maxsize=2)
def _program(model: nn.Module, shape: tuple[int, ...]) -> "torch.export.ExportedProgram":
    """What a model does, of the last two that were trained."""
    with preserve_state(model):
        return _export(model, shape)


def _written(
    program: "torch.export.ExportedProgram", draft: Draft, shape: Sequence[int], tensors: Mapping[str, Tensor]
) -> Network:
    """A network of a program, with parameters and buffers by name."""
    signature = program.graph_signature
    stored = {**signature.inputs_to_parameters, **signature.inputs_to_buffers}
    constants = {**signature.inputs_to_lifted_tensor_constants, **signature.inputs_to_lifted_custom_objs}
    known: dict[str, Any] = {}
    for node in program.graph.nodes:
        if node.op == "placeholder" and node.name in stored:
            place = stored[node.name]
            known[node.name] = tensors.get(place, program.constants.get(place))
        elif node.op == "placeholder" and node.name in constants:
            known[node.name] = program.constants[constants[node.name]]
        elif node.op == "placeholder":
            known[node.name] = draft.add("x", Input(), (), shape)
        elif node.op == "call_function":
            known[node.name] = _value_of(draft, node, known, LAYERS)
        elif node.op == "output":
            result = torch.fx.node.map_arg(node.args[0], lambda own: known[own.name])[0]
    if not isinstance(result, Value) or result.place != len(draft.nodes) - 1:
        reject("model", "logits that depend on the image", described("others"))
    return Network(tuple(draft.nodes), draft.dtype, draft.device)


def _compare(network: Network, model: Callable[[Tensor], Tensor], shape: tuple[int, ...]) -> None:
    """Look whether the network says what the model says; a difference would make its bounds worthless."""
    x = torch.rand(2, *shape, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        theirs = model(x).flatten(1).double()
        ours = network.forward(x.to(network.device, network.dtype))[-1].flatten(1).cpu().double()
    if theirs.shape != ours.shape or not torch.allclose(ours, theirs, rtol=1e-3, atol=1e-3):
        got = described("one that answers otherwise than its layers do, as far as bounds know them")
        reject("model", "a network whose layers say what it computes", got)


def _export(model: nn.Module, shape: tuple[int, ...]) -> "torch.export.ExportedProgram":
    own = _Logits(copy.deepcopy(model).to("cpu").float().eval()).eval().requires_grad_(False)
    rows = {0: torch.export.Dim("rows", min=1)}
    try:
        with _ONE_EXPORTS, _quiet():
            program = torch.export.export(own, (torch.full((2, *shape), 0.5),), dynamic_shapes=(rows,))
            functional: torch.export.ExportedProgram = program.run_decompositions({})
            return functional
    except Exception as error:  # whatever a model does that cannot be written down
        return reject(
            "model",
            "a network that torch.export can trace, for any number of images",
            described(f"one that it cannot: {_reason(error)}"),
        )


@contextmanager
def _quiet() -> Iterator[None]:
    """No warnings, logs and printed graphs of `torch.export`."""
    log = logging.getLogger("torch.fx.experimental.symbolic_shapes")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), redirect_stderr(StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        log.setLevel(level)


def _reason(error: Exception) -> str:
    """Why a model cannot be traced, in a line."""
    if "data-dependent" in str(error):
        return "its forward depends on the values of the images (an if, a loop or .item() on a tensor)"
    reason = str(error).strip().splitlines()[0][:200] if str(error).strip() else type(error).__name__
    return reason.partition("! For more information")[0]  # the rest is about PyTorch's own logs


def _value_of(draft: Draft, node: torch.fx.Node, known: dict[str, Any], layers: Mapping[str, Any]) -> Any:
    """The value that a call makes: a constant of constants, or what its layer writes down."""
    arguments: Any = torch.fx.node.map_arg(node.args, lambda own: known[own.name])
    named: Any = torch.fx.node.map_arg(dict(node.kwargs), lambda own: known[own.name])
    moving = [own for own in _flat((*arguments, *named.values())) if isinstance(own, Value)]
    function, value = str(node.target), node.meta.get("val")
    if not isinstance(value, Tensor | tuple | list):
        return None  # a number of rows
    if not moving and callable(node.target):
        return node.target(*arguments, **named)
    where = next(reversed((node.meta.get("nn_module_stack") or {}).values()), ("", ""))[0]
    place = where.removeprefix("model").removeprefix(".") or "the model itself"
    if node.target is operator.getitem and arguments[1] == 0:
        return arguments[0]  # the first result of several, which is all that `layers` has
    if function not in layers:
        reject("model", KNOWN, described(f"{function} in {place}"))
    value = value[0] if isinstance(value, tuple | list) else value
    rows: Any = value.shape[0] if isinstance(value, Tensor) else 0
    if not isinstance(value, Tensor) or isinstance(rows, int):
        reject("model", "layers that keep images apart", described(f"{function} in {place}"))
    shape = tuple(int(n) for n in value.shape[1:])
    try:
        return layers[function](Call(draft, place, shape, arguments, named))
    except Unbounded as error:
        expected = str(error)
    return reject("model", expected, described(f"{function} in {place}"))


def _flat(arguments: Any) -> list[Any]:
    if isinstance(arguments, tuple | list):
        return [own for each in arguments for own in _flat(each)]
    return [arguments]

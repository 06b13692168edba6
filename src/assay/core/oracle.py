"""Oracle: evaluates and differentiates the model, and counts passes."""

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from assay.core.evaluation import Evaluation
from assay.core.expectation import SeveralAnswers
from assay.core.memory_format import Layout, tolerant
from assay.core.model_calls import Classifier, Value, as_logits, call, fill_masked, gradients
from assay.core.model_state import model_device, model_dtype
from assay.core.objective import Objective
from assay.core.random_models import SeededCalls
from assay.core.rows import Rows
from assay.core.tree import take
from assay.core.types import Count, Flag, Images, Labels, Logits, PerRow
from assay.util.validate import described, one_of, reject

PRECISIONS = ("float32", "bfloat16")
_CHUNK = 4096
"""Most candidates that go to the model at once."""
COMPILE = ("no", "default", "reduce-overhead")


class Oracle:
    """A model as attacks see it. Use inside `preserve_state`.

    Args:
        model: maps images in [0, 1] to logits.
        search: precision in which attacks see the model, ``"float32"`` or ``"bfloat16"`` (autocast); `verify` is
            always in the model's own precision.
        compile: ``"no"``, ``"default"`` or ``"reduce-overhead"`` (CUDA graphs), passed to ``torch.compile`` for the
            search; the verification stays eager, so that a wrong compilation cannot grade itself.
        device: where to run; by default where the model is.
        surrogate: what attacks see instead of the model, which `verify` alone asks then.
        seed: of what the models draw themselves, call by call; None where that is looked after elsewhere.

    Attributes:
        forwards: forward passes of each row so far, ``(b,)`` on the CPU; set by the engine for the rows at hand.
        backwards: backward passes likewise.
        doubt: a number a row that is finite as long as all that was seen is, ``(b,)``; None if nothing was.
        repairs: whether a gradient that is not finite is given as zero, for who goes on with the row.
        masked: whether the model gives masked classes minus infinity, so that each answer has to be filled: seen at
            any answer on the CPU, at the referee's on an accelerator.
    """

    def __init__(
        self,
        model: Classifier,
        *,
        search: str = "float32",
        compile: str = "no",
        device: torch.device | None = None,
        surrogate: Classifier | None = None,
        seed: int | None = None,
    ) -> None:
        self.judged = model
        self.model = model = model if surrogate is None else surrogate
        asked: object = model
        self._several: SeveralAnswers | None = asked if isinstance(asked, SeveralAnswers) else None
        self.search = one_of("search", search, PRECISIONS)
        self.dtype = model_dtype(model)
        self.device = device or model_device(model, torch.device("cpu"))
        self.drawn = self.judging = SeededCalls(seed, {self.device})
        if surrogate is not None:
            self.judging = SeededCalls(seed, {self.device})
        one_of("compile", compile, COMPILE)
        self.layout: Layout | None = None
        # The referee sees the judged model's masked classes; those of a surrogate it never sees.
        self.compiled, self.masked = compile != "no", surrogate is not None
        self._fast: Classifier = model
        if self.compiled:
            self._fast = torch.compile(model, mode=compile, dynamic=False)
        self.repairs = True
        self.start(0)

    def bind(self, forwards: Count, backwards: Count) -> None:
        """Count from here on for these rows, of which nothing was seen yet."""
        self.forwards, self.backwards = forwards, backwards
        self.doubt: PerRow | None = None

    def start(self, count: int) -> None:
        """Count from zero for ``count`` rows."""
        none = torch.zeros(count, dtype=torch.int64)
        self.bind(none, none)

    def count(self, forwards: int | Count, backwards: int | Count = 0) -> None:
        """Add to what each row has cost."""
        self.forwards = self.forwards + forwards
        if not isinstance(backwards, int) or backwards:
            self.backwards = self.backwards + backwards

    def observe(self, numbers: PerRow) -> None:
        """Take note of a number a row, ``(b,)``, that is not finite if something that the row depends on is not."""
        self.doubt = numbers if self.doubt is None else self.doubt + numbers

    @property
    def nonfinite(self) -> Flag:
        """Rows that have met a non-finite value, ``(b,)``."""
        if self.doubt is None:
            return torch.zeros(len(self.forwards), dtype=torch.bool, device=self.device)
        return ~self.doubt.isfinite()

    @tolerant
    def logits(self, x: Images, rows: Rows) -> Logits:
        """Logits in the search precision, without a gradient; one forward pass a row (times the draws of an EOT).

        Args:
            x: images, ``(b, c, h, w)``.
            rows: the rows they belong to.
        """
        with torch.no_grad(), self._precision():
            logits, _ = self._run(x, rows)
        logits = logits.to(x.dtype)
        self.count(self.draws)
        self.observe(logits.sum(1))
        return logits

    @tolerant
    def evaluate(self, objective: Objective, x: Images, rows: Rows, *, scaled: bool = True) -> Evaluation:
        """The objective of each row and its gradient by the image; one pass forward and one backward a row.

        Rows do not touch each other: the gradient of the sum is each row's own.

        Args:
            objective: what is maximised.
            x: images, ``(b, c, h, w)``.
            rows: the rows they belong to.
            scaled: whether the length of a row's gradient matters. Without, it may be multiplied by any positive
                number, and is where that is cheaper or keeps it from vanishing.
        """
        self._check_gradients()

        def forward(leaf: Images) -> tuple[list[Value], tuple[Logits, PerRow | Callable[[], PerRow]]]:
            with self._precision():
                logits, draws = self._run(leaf, rows)
            logits = logits.to(leaf.dtype)
            several = self._several
            if draws is not None and several is not None:
                images, each = draws
                losses = [objective(z.to(leaf.dtype), image, rows) for image, z in zip(images, each, strict=True)]
                value = several.reduce(torch.stack(losses))
                return [value.sum()], (logits.detach(), value.detach())
            seen = logits.detach()
            slope = objective.slope(seen, rows, scaled=scaled)
            if slope is not None:
                return [(logits, slope)], (seen, lambda: objective(seen, x, rows))
            value = objective(logits, leaf, rows)
            return [value.sum()], (seen, value.detach())

        (grad,), (logits, value) = gradients(forward, x)
        self.count(self.draws, self.draws)
        self.observe(grad.sum((1, 2, 3)) + logits.sum(1))
        if callable(value):
            return Evaluation(logits, self._repaired(grad), value)
        self.observe(value)
        return Evaluation(logits, self._repaired(grad), lambda: value)

    def _repaired(self, grad: Images) -> Images:
        """A gradient with zeros for what is not finite, if somebody goes on with such rows."""
        if not self.repairs or (grad.device.type == "cpu" and not bool(self.nonfinite.any())):
            return grad
        return grad.nan_to_num(0.0, 0.0, 0.0)

    @tolerant
    def jacobian(
        self, x: Images, classes: Tensor, rows: Rows, *, against: Labels | None = None
    ) -> tuple[Logits, Float[Tensor, "b m c h w"]]:
        """Gradients of chosen logits by the image; one pass forward and ``m`` backward a row.

        Args:
            x: images, ``(b, c, h, w)``.
            classes: which logits, int64 ``(b, m)``.
            rows: the rows they belong to.
            against: a class whose logit is first taken from each of them, ``(b,)``; None for the logits themselves.

        Returns:
            Logits ``(b, k)`` and gradients ``(b, m, c, h, w)``.
        """
        self._check_gradients()
        count = classes.shape[1]

        def forward(leaf: Images) -> tuple[list[Value], Logits]:
            with self._precision():
                logits, _ = self._run(leaf, rows)
            logits = logits.to(leaf.dtype)
            chosen = logits.gather(1, classes)
            if against is not None:
                chosen = chosen - logits.gather(1, against[:, None])
            return [chosen[:, j].sum() for j in range(count)], logits

        grads, logits = gradients(forward, x)
        self.count(self.draws, self.draws * count)
        self.observe(logits.detach().sum(1))
        return logits.detach(), torch.stack(grads, dim=1)

    @tolerant
    def contrast(self, x: Images, focus: Labels, rows: Rows) -> tuple[Logits, Images, Images]:
        """Gradients of one logit and of the sum of all others; one pass forward and two backward a row.

        Args:
            x: images, ``(b, c, h, w)``.
            focus: the one logit, ``(b,)``.
            rows: the rows they belong to.

        Returns:
            Logits ``(b, k)`` and both gradients.
        """
        self._check_gradients()

        def forward(leaf: Images) -> tuple[list[Value], Logits]:
            with self._precision():
                logits, _ = self._run(leaf, rows)
            logits = logits.to(leaf.dtype)
            return [logits.gather(1, focus[:, None]).sum(), logits.sum()], logits

        (first, every), logits = gradients(forward, x)
        self.count(self.draws, 2 * self.draws)
        self.observe(logits.detach().sum(1))
        return logits.detach(), first, every - first

    def many(self, x: Float[Tensor, "b m c h w"], rows: Rows, count: Count) -> Float[Tensor, "b m k"]:
        """Logits of several candidates a row, without a gradient; one forward pass each.

        Args:
            x: candidates, ``(b, m, c, h, w)``.
            rows: the rows they belong to.
            count: how many of each row's candidates are asked about, the first ones, ``(b,)``, at most m.

        Returns:
            Logits, ``(b, m, k)``; zero for candidates that were not asked about.
        """
        wide = x.shape[1]
        counts = count.cpu()
        row, place = (torch.arange(wide)[None] < counts[:, None]).nonzero(as_tuple=True)
        there, at_place = row.to(x.device), place.to(x.device)
        flat, parts = x[there, at_place], []
        forwards, backwards, doubt = self.forwards, self.backwards, self.doubt
        for at in torch.arange(len(row)).split(_CHUNK):
            part_of, nth = (row[at], place[at]) if len(row) > _CHUNK else (row, place)
            part = take(rows, part_of)
            part = replace(part, key=part.key * 1_000_003 + nth.to(x.device))
            self.bind(forwards[part_of] + nth, backwards[part_of])
            parts.append(self.logits(flat if len(row) <= _CHUNK else flat[at.to(x.device)], part))
        self.bind(forwards, backwards)
        self.doubt = doubt
        self.count(counts * self.draws)
        if not parts:
            return x.new_zeros(len(x), wide, rows.reference.shape[1] if rows.reference is not None else 2)
        flat_logits = torch.cat(parts) if len(parts) > 1 else parts[0]
        logits = flat_logits.new_zeros(len(x), wide, flat_logits.shape[1])
        logits[there, at_place] = flat_logits
        self.observe(logits.sum((1, 2)))
        return logits

    def verify(self, x: Images) -> Logits:
        """Logits for the referee: eager, in the model's own precision and layout, not counted for the attack."""
        x = x.to(self.device)
        with torch.no_grad(), nullcontext() if self.layout is None else self.layout.paused():
            with self.judging.turn():
                output = call(self.judged, x.to(self.dtype))
            logits = as_logits(output, len(x))
        self.masked = self.masked or bool((logits == -torch.inf).any())
        return self._filled(logits).to(x.dtype)

    def discovers_masked(self, x: Images) -> bool:
        """Whether these images show masked classes that were not known of."""
        known = self.masked
        self.verify(x)
        return self.masked and not known

    def _check_gradients(self) -> None:
        if not getattr(self.model, "differentiable", True):
            reject(
                "attack",
                "one that needs only queries (such as Square or HopSkipJump), because the model has no gradients",
                described("an attack that asks for them"),
            )

    @property
    def draws(self) -> int:
        """Forward passes that one look at an image costs: the draws of an `Expectation`, else 1."""
        return 1 if self._several is None else self._several.draws

    def _run(self, x: Images, rows: Rows) -> tuple[Logits, tuple[Tensor, Tensor] | None]:
        """Logits, and the single draws where each is to have a loss of its own."""
        if self._several is not None:
            with self.drawn.turn():
                images, each = self._several.sample(x.to(self.dtype), rows.key, self.forwards)
            combined = self._filled(self._several.combine(each))
            alone = self._several.average not in ("logits", "probabilities")
            return combined, ((images, each) if alone else None)
        x = x.to(self.dtype)
        if not self.compiled:
            with self.drawn.turn():
                output = call(self.model, x)
            return self._filled(as_logits(output, len(x))), None
        torch.compiler.cudagraph_mark_step_begin()
        padded = _padded(x)
        with self.drawn.turn():
            output = call(self._fast, padded)
        return self._filled(as_logits(output, len(padded))[: len(x)].clone()), None

    def _filled(self, logits: Logits) -> Logits:
        if not self.masked and logits.device.type == "cpu":  # elsewhere the question would be a wait
            self.masked = logits.numel() > 0 and float(logits.detach().amin()) == -torch.inf
        return fill_masked(logits) if self.masked else logits

    def _precision(self) -> Any:
        if self.search == "bfloat16":
            return torch.autocast(self.device.type, dtype=torch.bfloat16)
        return nullcontext()


def _padded(x: Images) -> Images:
    """Repeat the last row up to the next power of two, so that a compiled model meets few batch sizes."""
    size = 1 << max(len(x) - 1, 0).bit_length()
    return x if size == len(x) else torch.cat([x, x[-1:].expand(size - len(x), *x.shape[1:])])

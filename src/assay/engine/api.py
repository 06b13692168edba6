"""The public calls: attack a model and keep a record, or perturb a batch inside a training loop."""

import time
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from assay.core.attack import Attack
from assay.core.call_context import in_neutral_context
from assay.core.combinators import AnyAttack, Stage, Variant, check_attack, unfold
from assay.core.memory_format import channels_last
from assay.core.model_calls import Classifier
from assay.core.model_state import model_device, preserve_state, seeded
from assay.core.oracle import Oracle
from assay.core.outcome import Outcome
from assay.core.rng import Rng, mix
from assay.core.rows import Test
from assay.core.tree import choose, expand_rows
from assay.core.types import Images, Labels, Mask
from assay.engine.active_rows import make_rows, variants_of
from assay.engine.engine import Engine, Settings
from assay.engine.inputs import Problem, check_labels, make_problem
from assay.engine.preflight import inspect, no_gradient, warn_of
from assay.engine.referee import Record
from assay.engine.starts import nearest_starts
from assay.util.memory import attempt, is_out_of_memory
from assay.util.progress import ProgressCallback
from assay.util.validate import described, one_of, reject, whole

STOPS = ("hit", "never")
ERRORS = ("raise", "record")
INTERRUPTED = "interrupted"
"""The event of a call that Ctrl-C ended early."""


@in_neutral_context
def attack(
    model: Classifier,
    x: Images,
    y: Labels,
    attack: AnyAttack,
    *,
    target: Labels | None = None,
    mask: Mask | None = None,
    start: Images | None = None,
    test: Test | None = None,
    stop: str = "hit",
    slots: int | None = None,
    search: str = "float32",
    compile: str = "no",
    seed: int = 0,
    ids: Labels | None = None,
    max_forwards: int | None = None,
    surrogate: Classifier | None = None,
    errors: str = "raise",
    preflight: bool = True,
    progress: ProgressCallback | None = None,
) -> Outcome:
    """Attack every sample that the model gets right, and measure what happened.

    The model is put into evaluation mode for the time of the call and left as it was found. Verdicts depend on
    ``seed`` and the sample, not on ``slots`` or the order of samples (up to float32 rounding in the model's own
    batched arithmetic). An interrupt (Ctrl-C) ends the call early: what is not decided is ``NOT_RUN``.

    Args:
        model: maps images ``(b, c, h, w)`` in [0, 1] to logits ``(b, k)``; it owns its normalisation.
        x: images, float, ``(n, c, h, w)`` in [0, 1], on any device.
        y: labels, int64, ``(n,)``.
        attack: an attack or a combination of attacks.
        target: classes to reach, ``(n,)``; by default any class but ``y``.
        mask: foreground, ``(n, 1, h, w)`` of 0 and 1 (or bool), where the attack needs one.
        start: images that attacks by labels alone start from, ``(n, c, h, w)`` in [0, 1], one a sample; those that
            are not adversarial are passed over. By default random images, and for a sample with a target the nearest
            image of ``x`` that the model gives this class. A sample for which none is found is ``NOT_RUN``.
        test: a further condition on success, ``(logits, images) -> bool (b,)``.
        stop: ``"hit"``: a sample ends with its first adversarial example (an attack without a budget goes on to the
            least distance it can find); ``"never"``: every step is run and the best image kept.
        slots: most rows in flight; batches of this size go to the model. By default 128 on a processor (where larger
            batches were measured to be slower), 256 on an accelerator.
        search: ``"float32"`` or ``"bfloat16"``; every hit is re-measured in float32 in either case.
        compile: ``"no"``, ``"default"`` or ``"reduce-overhead"`` (see ``torch.compile``), for the search.
        seed: of all random draws.
        ids: int64 address of each sample's random draws; by default derived from its pixels and label.
        max_forwards: most forward passes to spend on a sample.
        surrogate: what the attack sees instead of the model (another network, or the model with a gradient that it
            lacks itself); every hit is measured on the model.
        errors: ``"raise"``, or ``"record"``: samples on which the model raises end as ``ERROR``, the rest goes on.
        preflight: look at the model first, and warn of what would make the result meaningless.
        progress: called with a `Progress` after each change.

    Returns:
        The `Outcome`, on the CPU.

    Raises:
        TypeError, ValueError: a wrong argument, by name.

    Example:
        >>> from assay import PGD, attack
        >>> model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(4, 3))
        >>> x = torch.rand(8, 1, 2, 2, generator=torch.Generator().manual_seed(0))
        >>> with torch.no_grad():
        ...     y = model(x).argmax(1)
        >>> outcome = attack(model, x, y, PGD(eps=0.5, steps=5))
        >>> sum(outcome.counts.values())
        8
    """
    began = time.monotonic()
    settings = Settings(
        stop=one_of("stop", stop, STOPS),
        slots=None if slots is None else whole("slots", slots, least=1),
        seed=whole("seed", seed, least=-(2**63)),
        max_forwards=None if max_forwards is None else whole("max_forwards", max_forwards, least=1),
        errors=one_of("errors", errors, ERRORS),
        progress=progress,
    )
    stages = unfold(check_attack(attack))
    problem = make_problem(model, x, y, stages, target=target, mask=mask, start=start, test=test, ids=ids)
    device = model_device(model, problem.x.device)
    drawn = _seed_of(settings.seed, problem)
    oracle = Oracle(model, search=search, compile=compile, device=device, surrogate=surrogate, seed=drawn)
    oracle.repairs = False  # a row that meets what is not finite ends
    record = Record.empty(problem)
    engine = Engine(oracle, record, settings, attack.describe())
    seen = model if surrogate is None else surrogate
    try:
        if preflight and len(problem.x):
            warn_of(inspect(model, problem.x, problem.y))
        with (
            preserve_state(model, seen),
            seeded(drawn, {device}),  # what a random model draws
            channels_last(seen, wanted=compile == "no") as oracle.layout,
        ):
            logits = _clean(engine, oracle, problem)
            if len(record.errors) < len(problem.x) or not len(problem.x):  # else the errors say what is wrong
                check_labels(problem, logits)
            record.problem = problem = _with_starts(replace(problem, reference=logits), stages)
            engine.run(stages)
        if preflight and surrogate is None and bool(record.backwards.any()):  # what asked for gradients had some?
            warn_of([no_gradient(model, problem.x, problem.y)])
    except KeyboardInterrupt:
        engine.interrupt()
        record.events.append(INTERRUPTED)
    return record.outcome(
        stages=tuple(stage.attack.describe() for stage in stages),
        name=attack.describe(),
        seconds=time.monotonic() - began,
    )


def _seed_of(seed: int, problem: Problem) -> int:
    """A seed for what the model itself draws: that of the call, and other draws for other samples."""
    return (seed + (int(problem.keys[0]) if len(problem.keys) else 0)) % 2**63


def _clean(engine: Engine, oracle: Oracle, problem: Problem) -> Tensor:
    """Clean logits; where the model takes no image but with its channels in second place, that is what is said."""
    try:
        return engine.clean()
    except (RuntimeError, ValueError) as error:
        if not is_out_of_memory(error) and problem.x.shape[3] <= 4 < problem.x.shape[1]:
            turned, _ = attempt(lambda: oracle.verify(problem.x[:1].permute(0, 3, 1, 2)), lambda _: True)
            if turned is not None:
                reject(
                    "x",
                    "images of shape (n, c, h, w); these have their channels last: x.permute(0, 3, 1, 2)",
                    described(f"shape {tuple(problem.x.shape)}"),
                )
        error.add_note(f"assay: the model raised this on clean images, x of shape {tuple(problem.x.shape)}")
        raise


def _with_starts(problem: Problem, stages: tuple[Stage, ...]) -> Problem:
    """Where targets are to be reached from an image that has the class, and none was given: the nearest of all."""
    strict = problem.goal.strict
    needed = any("start" in stage.attack.needs and not stage.refines for stage in stages)
    if problem.start is not None or not needed or not bool(strict.any()):
        return problem
    classes = torch.where(problem.reference.isfinite().all(1), problem.reference.argmax(1), -1)
    return replace(problem, start=nearest_starts(problem.x, problem.y, problem.x, classes, problem.target))


def perturb(
    model: Classifier,
    x: Images,
    y: Labels,
    attack: AnyAttack,
    *,
    target: Labels | None = None,
    mask: Mask | None = None,
    keep: str = "last",
    search: str = "float32",
    seed: int | None = None,
    step: int = 0,
    ids: Labels | None = None,
) -> Images:
    """Adversarial images for a training step: all rows, all steps, no referee.

    The attack sees the model in evaluation mode; afterwards the model is as it was (in training mode, say).

    Args:
        model: as in `attack`.
        x: images on the model's device, ``(b, c, h, w)``.
        y: labels, ``(b,)``.
        attack: an attack; of a combination every part is run and the worst image kept.
        target: classes to reach, ``(b,)``.
        mask: foreground, ``(b, 1, h, w)``.
        keep: ``"last"`` (the last iterate, as in adversarial training) or ``"best"`` (the image with the largest
            objective that was evaluated, whether or not it is misclassified).
        search: as in `attack`.
        seed: of all random draws; by default a fresh one for each call, drawn from PyTorch's generator on the CPU, so
            that ``torch.manual_seed`` decides it.
        step: with a seed, which training step this is: the same seed and step draw the same numbers, another step
            others.
        ids: address of each row's random draws; by default its place in the batch.

    Returns:
        Images of the shape and on the device of ``x``, detached.

    Example:
        >>> from assay import PGD
        >>> model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(4, 3))
        >>> x = torch.full((2, 1, 2, 2), 0.5)
        >>> bool((perturb(model, x, torch.tensor([0, 1]), PGD(eps=0.1, steps=2)) - x).abs().max() <= 0.1 + 1e-6)
        True
    """
    if seed is None:
        seed = int(torch.randint(2**62, (), device="cpu"))
    return _perturb(
        model,
        x,
        y,
        attack,
        target,
        mask,
        one_of("keep", keep, ("last", "best")),
        search,
        whole("seed", seed, least=-(2**63)),
        whole("step", step),
        ids,
    )


@in_neutral_context
def _perturb(
    model: Classifier,
    x: Images,
    y: Labels,
    attack: AnyAttack,
    target: Labels | None,
    mask: Mask | None,
    keep: str,
    search: str,
    seed: int,
    step: int,
    ids: Labels | None,
) -> Images:
    stages = unfold(check_attack(attack))
    ids = torch.arange(len(x)) if ids is None and isinstance(x, Tensor) else ids
    problem = make_problem(model, x, y, stages, target=target, mask=mask, start=None, test=None, ids=ids)
    problem = replace(problem, keys=mix(problem.keys, step))
    if not len(x):
        return x.detach().clone()
    drawn = _seed_of(seed + step, problem)
    oracle = Oracle(model, search=search, device=model_device(model, problem.x.device), seed=drawn)
    attempts = [(stage, variant) for stage in stages for variant in stage.variants]
    single = len(attempts) == 1
    with preserve_state(model), seeded(drawn, {oracle.device}), channels_last(model) as oracle.layout:
        if any("reference" in stage.attack.needs or v.rank for stage, v in attempts):
            problem = replace(problem, reference=oracle.verify(problem.x).cpu())
            attempts = [(stage, stage.variants[i]) for stage in stages for i in variants_of(stage, problem.reference)]
        image, best_cost = problem.x.to(oracle.device), torch.full((len(x),), torch.inf, device=oracle.device)
        for stage, variant in attempts:
            if stage.refines:
                problem, best_cost = replace(problem, start=image.cpu()), torch.full_like(best_cost, torch.inf)
            last = single and keep == "last"
            candidate, cost = _unrefereed(problem, stage.attack, variant, oracle, Rng(seed), last=last)
            if bool(oracle.nonfinite.any()) and oracle.discovers_masked(problem.x):
                candidate, cost = _unrefereed(problem, stage.attack, variant, oracle, Rng(seed), last=last)
            closer = cost < best_cost
            image, best_cost = (
                torch.where(expand_rows(closer, image), candidate, image),
                torch.where(closer, cost, best_cost),
            )
            image = candidate if single else image
    return image.detach().to(x.device)


def _unrefereed(
    problem: Problem, part: Attack[Any], variant: Variant, oracle: Oracle, rng: Rng, *, last: bool
) -> tuple[Images, Tensor]:
    """All steps of one variant: the last image, or the one of least cost, with its cost."""
    count = len(problem.x)
    rows = make_rows(problem, torch.arange(count), [variant] * count, part, oracle.device)
    oracle.start(count)
    state = part.init(rows, rng)
    best, cost = rows.x, torch.full((count,), torch.inf, dtype=rows.x.dtype, device=oracle.device)
    over, final = torch.zeros(count, dtype=torch.bool), rows.x
    while True:
        step = part.step(rows, state, oracle, rng)
        state = step.state
        ends = step.done.cpu() & ~over  # a row that has ended is stepped on with the others, and ignored
        if last and step.pending is not None:
            left = step.left() if bool(ends.any()) else None
            if left is not None:
                final = torch.where(expand_rows(ends, final).to(final.device), left, final)
        else:
            closer = ~over.to(cost.device) & (step.costs() < cost)
            best, cost = choose(closer, (step.candidate, step.costs()), (best, cost))
        over = over | ends
        if bool(over.all()):
            break
    return (final, cost) if last and step.pending is not None else (best, cost)

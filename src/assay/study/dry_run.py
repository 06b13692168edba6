"""A shrunken study, for a quick end-to-end test before the real one."""

from collections.abc import Collection

from assay.certify.registry import limit_seconds
from assay.defences.registry import limit_work
from assay.study.images import is_there, made_instead
from assay.study.plan import on_device_here
from assay.study.run import limit_images
from assay.study.schema import Config, Curve, Diagnosis, Model
from assay.study.training_schema import Signatures, Training
from assay.util.parse import format_budget
from assay.util.progress import NoteCallback, no_note
from assay.util.spec import join_spec, split_spec

IMAGES = 8
"""Of each data set."""
_TRAINING = 64
_STEPS = 2
"""Of an attack in training."""
_DRAWS = 2
"""Of a randomised defence, and steps of one that searches."""
_PASSES = 10
"""Of an attack on a sample."""
_SIDE = 64
"""Of images that are made because those of the study are not there, at most."""


def shrink_study(config: Config, note: NoteCallback = no_note) -> Config:
    """The same study on a few images, with all its models, attacks, diagnostics and claims. Its numbers mean nothing.

    No trust checks are made. Data that are not there are replaced by made images of the same channels and classes, and
    an accelerator that is not there by this machine's processor.

    Args:
        config: a study.
        note: receives what is replaced.

    Raises:
        ValueError: data that are not there, and of which the study does not say what it expects.
    """
    config, notes = on_device_here(config)
    data = {}
    for name, source in config.data.items():
        there = source.expects is None or is_there(source)
        data[name] = source if there else made_instead(source, _SIDE)
        notes = notes if there else (*notes, f"data.{name}: {source.load} is not there: tried on {data[name].load}")
    for text in notes:
        note(text)
    config = config.model_copy(update={"data": data})
    models = {name: _shrink_model(model, config.models) for name, model in config.models.items()}
    return limit_images(config, IMAGES).model_copy(
        update={
            "models": models,
            "curve": _shrink_curve(config),
            "certify": tuple(limit_seconds(spec, 1.0) for spec in config.certify),
            "diagnostics": tuple(_shrink_diagnosis(question) for question in config.diagnostics),
            "signatures": None if config.signatures is None else _shrink_signatures(config.signatures),
            "run": config.run.model_copy(
                update={"max_forwards": min(config.settings.max_forwards or _PASSES, _PASSES), "checks": "none"}
            ),
        }
    )


def _shrink_curve(config: Config) -> Curve:
    """One further budget a curve, and those of claims."""
    quantities = [q for claim in config.claims for q in (claim.ours, claim.less, claim.over) if q is not None]
    claimed = [quantity.budget for quantity in quantities if quantity.budget is not None]
    lists = {name: getattr(config.curve, name) for name in ("eps", "background", "foreground")}
    return config.curve.model_copy(
        update={
            name: tuple(b for i, b in enumerate(budgets) if i == 0 or any(format_budget(b) in text for text in claimed))
            for name, budgets in lists.items()
        }
    )


def _shrink_model(model: Model, models: Collection[str]) -> Model:
    changes: dict[str, object] = {}
    if model.train is not None:
        changes["train"] = _shrink_training(model.train, models)
    if model.defence is not None:
        changes["defence"] = limit_work(model.defence, _DRAWS)
    if model.fit is not None:
        _, options = split_spec("defence", limit_work(join_spec(model.fit.defence, model.fit.options), _DRAWS))
        changes["fit"] = model.fit.model_copy(update={"epochs": 1, "limit": _TRAINING, "options": options})
    return model.model_copy(update=changes)


def _shrink_training(training: Training, models: Collection[str]) -> Training:
    """One epoch, few images; weights from elsewhere are not fetched."""
    fields = training.model_dump()
    start = fields["start"] if fields["start"] in models else None
    steps = min(fields["attack_steps"], _STEPS)
    changes = {
        "epochs": min(1, fields["epochs"]),
        "limit": _TRAINING,
        "milestones": (),
        "attack_steps": steps,
        "start": start,
    }
    return training.model_copy(update=changes)


def _shrink_diagnosis(diagnosis: Diagnosis) -> Diagnosis:
    changes = {
        "limit": min(diagnosis.limit, IMAGES // 2),
        "lambdas": diagnosis.lambdas[:2] or (0.0, 1.0),
        "train_limit": min(diagnosis.train_limit, _TRAINING),
        "updates": 1,
        "search_steps": min(diagnosis.search_steps, 20),
        "detector_epochs": 1,
        "saliency_epochs": 1,
        "at_epochs": (0, 1) if diagnosis.at_epochs else (),
    }
    return diagnosis.model_copy(update=changes)


def _shrink_signatures(signatures: Signatures) -> Signatures:
    changes = {
        "limit": 2 * IMAGES,
        "test_limit": IMAGES,
        "steps": min(signatures.grid().steps, 5),
        "epochs": 1,
        "warmup": 0,
        "carlini_steps": min(signatures.grid().carlini_steps, 10),
    }
    return signatures.model_copy(update=changes)

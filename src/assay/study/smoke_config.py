"""A shrunken study, for a quick end-to-end test before the real one."""

from assay.study.run import limit_images
from assay.study.schema import Config, Diagnosis
from assay.study.training_schema import Signatures, Training

IMAGES = 8
"""Of each data set."""
_TRAINING = 64


def shrink_study(config: Config) -> Config:
    """The same study on a few images, with all its models, attacks, diagnostics and claims. Its numbers mean nothing.

    Args:
        config: a study.
    """
    models = {
        name: model if model.train is None else model.model_copy(update={"train": _shrink_training(model.train)})
        for name, model in config.models.items()
    }
    return limit_images(config, IMAGES).model_copy(
        update={
            "models": models,
            "diagnostics": tuple(_shrink_diagnosis(question) for question in config.diagnostics),
            "signatures": None if config.signatures is None else _shrink_signatures(config.signatures),
        }
    )


def _shrink_training(training: Training) -> Training:
    changes = {"epochs": min(1, training.model_dump()["epochs"]), "limit": _TRAINING, "milestones": ()}
    return training.model_copy(update=changes)


def _shrink_diagnosis(diagnosis: Diagnosis) -> Diagnosis:
    changes = {
        "limit": min(diagnosis.limit, IMAGES),
        "train_limit": min(diagnosis.train_limit, _TRAINING),
        "updates": 1,
        "search_steps": min(diagnosis.search_steps, 20),
        "detector_epochs": 1,
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

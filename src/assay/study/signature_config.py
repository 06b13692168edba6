"""Build the signature training of a study."""

from collections.abc import Mapping

from assay.runs.signatures import SignatureConfig
from assay.signatures.losses import Helpers
from assay.signatures.settings import settings
from assay.study.images import load_images
from assay.study.models import StudyModel
from assay.study.schema import Config


def signature_config(config: Config, where: Mapping[tuple[str, str], StudyModel]) -> SignatureConfig:
    """The `SignatureConfig` of a study with a ``signatures`` section.

    Raises:
        ValueError: it has none.
    """
    section = config.signatures
    if section is None:
        raise ValueError("signatures: expected a section of that name in the study")
    plan = section.plan()
    data = section.data or next(iter(config.data))
    source = config.data[data]
    victims = {name: where[name, data].source.load() for name in section.victims}
    train = load_images(source, "train", limit=section.limit, seed=plan.seed, name=data)
    test = load_images(source, "test", limit=section.test_limit, seed=plan.seed, name=data)
    first, last = section.victims[0], section.victims[-1]
    return SignatureConfig(
        victims,
        train,
        test,
        settings(min(train.x.shape[2:]), section.grid(), section.kinds),
        helpers=Helpers(victims[first], victims[last]),
        extractor=f"{last}, trained on such images, convolution {plan.layer}",
        plan=plan,
        columns=section.columns,
        seed=plan.seed,
        device=config.settings.device,
    )

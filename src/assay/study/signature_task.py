"""What a study asks to be learned about the signatures of attacks."""

from collections.abc import Mapping

from assay.data import load as load_data
from assay.runs.settings import device_of
from assay.runs.signatures import SignatureTask
from assay.signatures import Helpers, settings
from assay.study.models import StudyModel
from assay.study.schema import Config


def signature_task(config: Config, where: Mapping[tuple[str, str], StudyModel]) -> SignatureTask:
    """The lesson of a study that has ``signatures``.

    Raises:
        ValueError: it has none.
    """
    schema = config.signatures
    if schema is None:
        raise ValueError("signatures: expected a section of that name in the study")
    data = schema.data or next(iter(config.data))
    source = config.data[data]
    victims = {name: where[name, data].source.load() for name in schema.victims}
    train = load_data(source.load, split="train", limit=schema.limit, seed=schema.seed)
    test = load_data(source.load, split="test", limit=schema.test_limit, seed=schema.seed)
    first, last = schema.victims[0], schema.victims[-1]
    return SignatureTask(
        victims,
        train,
        test,
        settings(min(train.x.shape[2:]), schema.grid(), schema.kinds),
        helpers=Helpers(victims[first], victims[last]),
        extractor=f"{last}, trained on such images, convolution {schema.layer}",
        plan=schema.plan(),
        columns=schema.columns,
        seed=schema.seed,
        device=device_of(config.run.device),
    )

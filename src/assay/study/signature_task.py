"""What a study asks to be learned about the signatures of attacks."""

from collections.abc import Mapping

from assay.data import load as load_data
from assay.runs.settings import device_of
from assay.runs.signatures import Lesson
from assay.signatures import Helpers, settings
from assay.study.models import Origin
from assay.study.schema import Config


def lesson_of(config: Config, where: Mapping[tuple[str, str], Origin]) -> Lesson:
    """The lesson of a study that has ``signatures``.

    Raises:
        ValueError: it has none.
    """
    asked = config.signatures
    if asked is None:
        raise ValueError("signatures: expected a section of that name in the study")
    data = asked.data or next(iter(config.data))
    source = config.data[data]
    victims = {name: where[name, data].source.make() for name in asked.victims}
    train = load_data(source.load, split="train", limit=asked.limit, seed=asked.seed)
    test = load_data(source.load, split="test", limit=asked.test_limit, seed=asked.seed)
    first, last = asked.victims[0], asked.victims[-1]
    return Lesson(
        victims, train, test, settings(min(train.x.shape[2:]), asked.grid(), asked.kinds),
        helpers=Helpers(victims[first], victims[last]),
        extractor=f"{last}, trained on such images, convolution {asked.layer}",
        plan=asked.plan(), columns=asked.columns, seed=asked.seed, device=device_of(config.run.device),
    )  # fmt: skip

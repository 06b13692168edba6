"""Build the signature training of a study."""

from collections.abc import Mapping

from assay.runs.signatures import SignatureConfig
from assay.signatures.held_out import HeldOutSet, unseen_attacks, unseen_budgets
from assay.signatures.losses import Helpers
from assay.signatures.settings import settings
from assay.study.images import load_images
from assay.study.schema import Config
from assay.study.study_model import StudyModel


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
    first, last = section.victims[0], section.extractor or section.victims[-1]
    grid, size = section.grid(), min(train.x.shape[2:])
    learned = settings(size, grid, section.kinds)
    held_out = [unseen_budgets(section.unseen_eps, grid, section.kinds, size, victims)] if section.unseen_eps else []
    if section.unseen_victim is not None:
        unseen = {section.unseen_victim: where[section.unseen_victim, data].source.load()}
        held_out.append(HeldOutSet(f"A victim it has not seen, {section.unseen_victim}", unseen, learned))
    held_out += unseen_attacks(section.unseen_attacks, section.kinds, grid.eps[-1], victims)
    return SignatureConfig(
        victims,
        train,
        test,
        learned,
        helpers=Helpers(victims[first], where[last, data].source.load()),
        extractor=f"{last}, trained on such images, convolution {plan.layer}",
        plan=plan,
        columns=section.columns,
        held_out=held_out,
        refused=section.refused,
        accused=section.accused,
        seed=plan.seed,
        seeds=section.seeds,
        rounding=grid.rounding,
        innocent=grid.innocent,
        device=config.settings.device,
    )

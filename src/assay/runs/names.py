"""Names in a study that have to agree: of models, data and attacks with budgets."""

from collections.abc import Collection, Iterator, Sequence
from typing import TYPE_CHECKING

from assay.attacks.registry import Planned, make
from assay.core.arguments import nearest
from assay.runs.plans import curve_plans, is_budget, plans
from assay.runs.signatures import LEARNED

if TYPE_CHECKING:
    from assay.runs.schema import Config, Quantity


class WrongNamesError(ValueError):
    """Names in a study that do not agree.

    Attributes:
        sentences: one for each.
    """

    def __init__(self, sentences: Sequence[str]) -> None:
        super().__init__("; ".join(sentences))
        self.sentences = tuple(sentences)


def wrong_names(config: "Config") -> Iterator[str]:
    """Sentences about names that a study uses and does not have, and attacks that cannot be made with its budgets.

    Args:
        config: a study whose fields are right, each for itself.
    """
    attacks = list(_of_attacks(config))
    yield from _of_models(config)
    yield from attacks
    yield from _of_diagnostics(config)
    yield from _of_claims(config, [] if attacks else [*plans(config), *curve_plans(config)])


def _of_models(config: "Config") -> Iterator[str]:
    """Sentences about names that the models use and the study does not have."""
    trained: list[str] = []
    for name, model in config.models.items():
        for used in model.data or ():
            yield from _unknown(f"models.{name}.data", used, config.data)
        if model.train is not None:
            yield from _unknown(f"models.{name}.train.data", model.train.data, config.data)
            for field in ("start", "teacher"):
                used = getattr(model.train, field)
                if used is not None and used not in trained:
                    yield f"models.{name}.train.{field}: expected a model trained before, got {used!r}"
                elif used is not None and not _data_of(config, name) <= _data_of(config, used):
                    yield f"models.{name}.train.{field}: expected a model on the same data, got {used!r}"
            trained.append(name)


def _data_of(config: "Config", model: str) -> set[str]:
    return set(config.models[model].data or config.data)


def _of_attacks(config: "Config") -> Iterator[str]:
    """About attacks that cannot be made with a budget."""
    for i, spec in enumerate(config.attacks):
        for j, threat in enumerate(config.budgets):
            try:
                make(spec, eps=threat.eps, norm=threat.norm, eps_background=threat.background)
            except ValueError as error:
                yield f"attacks[{i}] with budgets[{j}]: {error}"


def _of_diagnostics(config: "Config") -> Iterator[str]:
    """About names that diagnostics and signatures use."""
    for i, asked in enumerate(config.diagnostics):
        place = f"diagnostics[{i}]"
        for used in asked.models or ():
            yield from _unknown(f"{place}.models", used, config.models)
        yield from _unknown(f"{place}.data", asked.data, config.data)
        yield from _unknown(f"{place}.over", asked.over, config.models)
        if asked.over in config.models and not getattr(config.models[asked.over].train, "trail", False):
            yield f"{place}.over: expected a model trained with `trail: true`, got {asked.over!r}"
        if asked.data is None and len(config.data) > 1:
            yield f"{place}.data: expected a name, as there are several data sets"
    if config.signatures is not None:
        for used in config.signatures.victims:
            yield from _unknown("signatures.victims", used, config.models)
        yield from _unknown("signatures.data", config.signatures.data, config.data)


def _of_claims(config: "Config", made: Sequence[Planned]) -> Iterator[str]:
    """About names that claims use; ``made`` are the attacks of the study, none if these are wrong themselves."""
    asked = [name for question in config.diagnostics for name in question.ask]
    asked += LEARNED if config.signatures is not None else ()
    for i, claim in enumerate(config.claims):
        for part in (claim.ours, claim.less, claim.over):
            if part is None:
                continue
            yield from _unknown(f"claims[{i}]", part.clean or part.robust, config.models)
            yield from _unknown(f"claims[{i}]", part.data, config.data)
            if part.answer is None and part.data is None and len(config.data) > 1:
                yield f"claims[{i}]: expected data, one of {', '.join(config.data)}, as there are several"
            yield from _unknown(f"claims[{i}] (answer)", part.answer, asked)
            if made:
                yield from _unplanned(f"claims[{i}]", part, made)


def _unplanned(place: str, part: "Quantity", made: Sequence[Planned]) -> Iterator[str]:
    """About attacks and budgets that a number asks for."""
    budgets = list(dict.fromkeys(planned.budget for planned in made))
    if part.budget is not None and not any(is_budget(part.budget, budget) for budget in budgets):
        yield from _unknown(f"{place} (budget)", part.budget, budgets)
    names = list(dict.fromkeys(planned.attack.describe() for planned in made))
    if part.attack is not None and not any(part.attack.lower() in name.lower() for name in names):
        yield f"{place} (attack): expected one of {', '.join(names)}, or a part of its name, got {part.attack!r}"


def _unknown(place: str, name: str | None, known: Collection[str]) -> Iterator[str]:
    if name is not None and name not in known:
        yield f"{place}: expected one of {', '.join(known) or 'none'}, got {name!r}{nearest(name, known)}"

"""Cross-reference checks of a study: names of models, data and answers, and attacks with budgets."""

from collections.abc import Collection, Iterator
from dataclasses import dataclass

from assay.attacks.registry import make
from assay.models.load import is_spec
from assay.runs.signatures import ANSWER_NAMES
from assay.store.claims import Quantity
from assay.store.judged_claims import AttackNames, is_budget
from assay.study.attack_plan import added_attack, attack_names, beside_plans, curve_plans, plans
from assay.study.schema import Config, Curve
from assay.util.validate import nearest

Path = tuple[str | int, ...]
"""Where a field is: ``("claims", 0, "ours")``."""
ATTACKS: tuple[Path, ...] = (("attacks",), ("beside",), ("budgets",), ("suite",), ("curve",))
"""The fields that decide which attacks a study has."""
_ANSWERS: tuple[Path, ...] = (("diagnostics",), ("signatures",))


@dataclass(frozen=True)
class StudyFault:
    """One error in a study.

    Attributes:
        place: the field, as a message writes it: ``models.plain.data``; empty for the whole file.
        message: what was expected, and what was given.
        depends: the fields that it concerns; if one of them is invalid itself, the error may be spurious.
    """

    place: str
    message: str
    depends: tuple[Path, ...] = ()

    def __str__(self) -> str:
        return f"{self.place}: {self.message}" if self.place else self.message


def cross_check(config: Config) -> Iterator[StudyFault]:
    """Names that a study uses and does not define, and attacks that cannot be made with its budgets.

    Args:
        config: a study whose fields are valid, each for itself.
    """
    attacks = list(_check_attacks(config))
    yield from _check_models(config)
    yield from attacks
    yield from _check_diagnostics(config)
    yield from _check_figures(config)
    yield from _check_claims(config, {} if attacks else attack_names(config))


def _check_models(config: Config) -> Iterator[StudyFault]:
    trained: list[str] = []
    for name, model in config.models.items():
        path: Path = ("models", name)
        for used in model.data or ():
            yield from _unknown(f"models.{name}.data", used, config.data, path, ("data", used))
        if model.train is not None:
            yield from _unknown(
                f"models.{name}.train.data", model.train.data, config.data, path, ("data", model.train.data or "")
            )
            for field in ("start", "teacher"):
                used = getattr(model.train, field)
                place, other = f"models.{name}.train.{field}", ("models", used)
                if field == "start" and used is not None and used not in config.models and is_spec(used):
                    continue
                if used is not None and used not in trained:
                    yield StudyFault(place, f"expected a model trained before, got {used!r}", (path, other))
                elif used is not None and not _data_of(config, name) <= _data_of(config, used):
                    text = f"expected a model on the same data, got {used!r}"
                    yield StudyFault(place, text, (path, other, ("data",)))
            yield from _check_added(config, name, trained)
            trained.append(name)


def _check_added(config: Config, name: str, trained: Collection[str]) -> Iterator[StudyFault]:
    """Check the adversarial images that a training adds."""
    training = config.models[name].train
    if training is None or training.add is None:
        return
    added, place = training.add, f"models.{name}.train.add"
    if added.model not in trained:
        text = f"expected a model trained before, got {added.model!r}"
        yield StudyFault(f"{place}.model", text, (("models", name), ("models", added.model)))
    try:
        added_attack(config, added)
    except ValueError as error:
        yield StudyFault(f"{place}.attack", str(error), (("models", name), ("budgets",)))


def _data_of(config: Config, model: str) -> set[str]:
    return set(config.models[model].data or config.data)


def _check_attacks(config: Config) -> Iterator[StudyFault]:
    faulty = False
    for i, spec in enumerate(config.attacks):
        for j, threat in enumerate(config.budgets):
            try:
                make(spec, eps=threat.eps, norm=threat.norm, eps_background=threat.background)
            except ValueError as error:
                faulty = True
                yield StudyFault(f"attacks[{i}] with budgets[{j}]", str(error), ATTACKS)
    for place, make_plans in () if faulty else (("budgets", plans), ("beside", beside_plans), ("curve", curve_plans)):
        try:
            make_plans(config)
        except ValueError as error:
            yield StudyFault(place, str(error), ATTACKS)


def _check_diagnostics(config: Config) -> Iterator[StudyFault]:
    for i, diagnosis in enumerate(config.diagnostics):
        place, own = f"diagnostics[{i}]", ("diagnostics", i)
        for used in diagnosis.models or ():
            yield from _unknown(f"{place}.models", used, config.models, own, ("models", used))
        over = diagnosis.over
        yield from _unknown(f"{place}.data", diagnosis.data, config.data, own, ("data", diagnosis.data or ""))
        yield from _unknown(f"{place}.over", over, config.models, own, ("models", over or ""))
        if over in config.models and not getattr(config.models[over].train, "trail", False):
            text = f"expected a model trained with `trail: true`, got {over!r}"
            yield StudyFault(f"{place}.over", text, (own, ("models", over)))
        if diagnosis.data is None and len(config.data) > 1:
            yield StudyFault(f"{place}.data", "expected a name, as there are several data sets", (own,))
    if config.signatures is not None:
        section, data = ("signatures",), config.signatures.data
        for field in ("extractor", "unseen_victim"):
            used = getattr(config.signatures, field)
            yield from _unknown(f"signatures.{field}", used, config.models, section, ("models", used or ""))
        for used in config.signatures.victims:
            yield from _unknown("signatures.victims", used, config.models, section, ("models", used))
        yield from _unknown("signatures.data", data, config.data, section, ("data", data or ""))


def _check_figures(config: Config) -> Iterator[StudyFault]:
    """Check what is said to show the paper's figures, and the figures that claims are about."""
    there = [name for diagnosis in config.diagnostics for name in diagnosis.ask]
    there += [name for name in ("attacks", "beside", "signatures") if getattr(config, name)]
    there += ["curve"] if config.curve != Curve() else []
    there += ["training"] if any(model.train is not None for model in config.models.values()) else []
    there += ["images"] if config.run.model_dump()["images"] != "none" else []
    for i, figure in enumerate(config.figures):
        for name in figure.by:
            yield from _unknown(f"figures[{i}].by", name, there, ("figures", i), *ATTACKS, *_ANSWERS)
    ids = [figure.id for figure in config.figures]
    for i, claim in enumerate(config.claims):
        yield from _unknown(f"claims[{i}].figure", claim.figure, ids, ("claims", i), ("figures",))


def _check_claims(config: Config, attacks: AttackNames) -> Iterator[StudyFault]:
    """Check the names that claims use; ``attacks`` are those of the study, none if these are wrong themselves."""
    answers = [name for diagnosis in config.diagnostics for name in diagnosis.ask]
    asked_about = [diagnosis.about for diagnosis in config.diagnostics if diagnosis.about is not None]
    answers += ANSWER_NAMES if config.signatures is not None else ()
    for i, claim in enumerate(config.claims):
        place, own = f"claims[{i}]", ("claims", i)
        for quantity in (claim.ours, claim.less, claim.over):
            if quantity is None:
                continue
            model, several = quantity.clean or quantity.robust, len(config.data) > 1
            yield from _unknown(place, model, config.models, own, ("models", model or ""))
            yield from _unknown(place, quantity.data, config.data, own, ("data", quantity.data or ""))
            if quantity.answer is None and quantity.data is None and several:
                yield StudyFault(place, f"expected data, one of {', '.join(config.data)}, as there are several", (own,))
            yield from _unknown(f"{place} (answer)", quantity.answer, answers, own, *_ANSWERS)
            yield from _unknown(f"{place} (over)", quantity.over, asked_about, own, ("diagnostics",))
            if attacks:
                yield from _check_attack_names(place, quantity, attacks, own)


def _check_attack_names(place: str, quantity: Quantity, attacks: AttackNames, own: Path) -> Iterator[StudyFault]:
    """Check the attacks and budgets that a number names."""
    yield from _unknown(f"{place} (attack)", quantity.attack, attacks, own, *ATTACKS)
    chosen = attacks.get(quantity.attack or "") or [cell for cells in attacks.values() for cell in cells]
    budgets = list(dict.fromkeys(budget for _, budget, _ in chosen))
    if quantity.attack in attacks and quantity.budget is None and all(on_curve for _, _, on_curve in chosen):
        text = f"expected a budget, one of {', '.join(budgets)}, as {quantity.attack} is only on a curve"
        yield StudyFault(f"{place} (budget)", text, (own, *ATTACKS))
    if quantity.budget is not None and not any(is_budget(quantity.budget, budget) for budget in budgets):
        yield from _unknown(f"{place} (budget)", quantity.budget, budgets, own, *ATTACKS)


def _unknown(place: str, name: str | None, known: Collection[str], *depends: Path) -> Iterator[StudyFault]:
    """A fault, if there is a name and it is not known."""
    if name is not None and name not in known:
        text = f"expected one of {', '.join(known) or 'none'}, got {name!r}{nearest(name, known)}"
        yield StudyFault(place, text, depends)

"""``assay signatures`` and ``assay identify``: recognise which attack produced an image."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from torch import nn

from assay.cli.data import load_data
from assay.cli.models import parse_model
from assay.cli.output import print_json, print_line, same_command
from assay.data.dataset import resized
from assay.data.decode import decode_images
from assay.models.fits import check_fit
from assay.models.load import load as load_model
from assay.runs.settings import device_of
from assay.runs.signatures import COMMAND, SignatureConfig, is_signatures, learn_signatures
from assay.signatures.held_out import HeldOutSet, unseen_attacks, unseen_budgets
from assay.signatures.identifier import load_identifier
from assay.signatures.losses import Helpers
from assay.signatures.networks import layer_of
from assay.signatures.plan import SCENARIOS, Plan
from assay.signatures.settings import KINDS, Grid, settings
from assay.util.console import console_reporter, print_note
from assay.util.fields import Budget, Seed
from assay.util.output_folder import check_claim, out_folder
from assay.util.spec import names_of
from assay.util.validate import name_argument, number, reject, whole

_LARGEST = 2**30


def signatures(
    victim: list[str],
    /,
    *,
    data: str,
    out: Annotated[Path, Parameter(name=["--out", "-o"])] = Path("runs/signatures"),
    kinds: str = ",".join(KINDS),
    grid: Annotated[Grid, Parameter(name="*")] = Grid(),
    columns: str = ",".join(SCENARIOS),
    extractor: str | None = None,
    plan: Annotated[Plan, Parameter(name="*")] = Plan(),
    unseen_eps: tuple[Budget, ...] = (),
    unseen_victim: str | None = None,
    unseen_attack: list[str] | None = None,
    seeds: tuple[Seed, ...] = (),
    refused: float = 0.05,
    accused: float = 0.03,
    resize: int | None = None,
    limit: int | None = None,
    test_limit: int | None = None,
    device: str = "auto",
    quiet: bool = False,
) -> int:
    """Learn to recognise which attack made an image.

    Makes a data set of attacks, trains recognisers, and writes the tables and a file for ``assay identify``.

    Results are stored as they arrive; after an interrupt, run the same command to resume.

    Parameters
    ----------
    victim
        Classifiers on which the attacks are made, as in assay evaluate; the reconstructor is trained through the first.
    data
        Where images come from (see: assay ls data): the training part for training, the test part for testing.
    out
        The folder: identifier.safetensors, tables.json, signatures.html.
    kinds
        Attacks to be told apart.
    columns
        What to train: image, truth (with the true perturbation), redrl, and its ablations A, B, C.
    extractor
        A network whose features clean and reconstructed images should share; by default the last victim.
    unseen_eps
        Held-out budgets, for testing only.
    unseen_victim
        A held-out classifier, for testing only.
    unseen_attack
        Attacks that are tried and not learned (see: assay ls attacks); the identifier should report them as unknown.
    seeds
        Seeds of recognisers: each is trained once with every one, and tables have means with 95 % intervals; the first
        is the one that assay identify uses.
    refused
        Share of known examples that may be called unknown.
    accused
        Share of images that no attack made which may be said to be of one (with --innocent, of those with noise and
        other corruptions).
    resize
        Height and width to which images are resized before they are attacked, bilinearly; the paper's are enlarged from
        32 to 64, so that clean images have no fine detail of which a perturbation could be a part.
    limit
        At most so many images to learn from.
    test_limit
        At most so many to be tried on.
    device
        Where the networks run: auto, cpu, cuda, cuda:1, mps.
    quiet
        No progress.
    """
    command = same_command(signatures, locals())
    if plan.sees != Plan.sees:
        reject("sees", "nothing, as --columns says what each recogniser sees", plan.sees)
    scenarios, names = names_of("columns", columns, SCENARIOS), names_of("kinds", kinds, KINDS)
    number("refused", refused, least=0, most=0.5)
    number("accused", accused, least=0, most=1)
    check_claim(out_folder(out), COMMAND, (), is_signatures)
    victims = {name: load_model(path) for name, path in map(parse_model, victim)}
    if len(victims) < len(victim):
        reject("victim", "a name for each model, all different (NAME=SPEC)", victim)
    with name_argument("extractor", inner="model"):
        extractor_network = list(victims.values())[-1] if extractor is None else load_model(extractor)
    _check_layer(extractor_network, plan, scenarios)
    train = load_data(data, split="train", limit=limit, seed=plan.seed)
    test = load_data(data, split="test", limit=test_limit, seed=plan.seed)
    if resize is not None:
        train, test = (resized(part, whole("resize", resize, least=8, most=2**12)) for part in (train, test))
    for name, network in victims.items():
        check_fit(name, network, train)
    size = min(train.x.shape[2:])
    trained_settings, held_out = settings(size, grid, names), []
    if unseen_eps:
        held_out.append(unseen_budgets(unseen_eps, grid, names, size, victims))
    if unseen_victim is not None:
        name, path = parse_model(unseen_victim)
        with name_argument("unseen-victim", inner="model"):
            unseen = load_model(path)
        check_fit(name, unseen, train)
        held_out.append(HeldOutSet(f"A victim it has not seen, {name}", {name: unseen}, trained_settings))
    held_out += unseen_attacks(unseen_attack or [], names, grid.eps[-1], victims)
    first, last = next(iter(victims)), list(victims)[-1]
    extractor_name = f"{last}, trained on such images" if extractor is None else extractor
    config = SignatureConfig(
        victims,
        train,
        test,
        trained_settings,
        helpers=Helpers(victims[first], extractor_network),
        extractor=f"{extractor_name}, convolution {plan.layer}",
        plan=plan,
        columns=scenarios,
        held_out=held_out,
        refused=refused,
        accused=accused,
        seed=plan.seed,
        seeds=seeds,
        rounding=grid.rounding,
        innocent=grid.innocent,
        device=device_of(device),
    )
    with console_reporter(quiet=quiet, notes=not quiet) as reporter:
        page = learn_signatures(config, out, command=command, reporter=reporter)
    print_line(f"signatures: {page}")
    if "redrl" in scenarios or "image" in scenarios:
        print_line(f"identifier: {out / 'identifier.safetensors'}")
    return 0


def identify(
    image: list[Path],
    /,
    *,
    by: Path,
    json: bool = False,
) -> int:
    """Identify the attack that made an image.

    The answer may be that none of the known attacks did.

    Parameters
    ----------
    image
        Image files, of the size that was learned; they are not resized, as that would change a perturbation.
    by
        identifier.safetensors, made by assay signatures.
    json
        Print the result as JSON, with all probabilities and the confusion matrix.
    """
    with name_argument("by", inner="identifier"):
        identifier = load_identifier(by)
    height, width = identifier.shape[1:]
    results = []
    for path in image:
        if not path.is_file():
            raise FileNotFoundError(f"image: expected an image file, but there is none at {path}")
        mode = "rgb" if identifier.shape[0] == 3 else "l"
        x = decode_images([(path.name, path)], 1, mode=mode, limit=_LARGEST).float() / 255
        if x.shape[-2:] != (height, width):
            expected, got = (f"{w}×{h} pixels" for h, w in ((height, width), tuple(x.shape[-2:])))
            reject(
                "image", f"{expected}, as was learned (resizing would change a perturbation)", f"{got} in {path.name}"
            )
        results.append(identifier(x)[0])
        if path.suffix.lower() in (".jpg", ".jpeg"):
            print_note(f"{path.name}: JPEG changes perturbations; what remains of it is identified")
    if json:
        print_json(
            {
                "images": [
                    {
                        "image": str(path),
                        "is": guess.kind,
                        "probability": guess.probability,
                        "novelty": guess.novelty,
                        "threshold": guess.threshold,
                    }
                    for path, guess in zip(image, results, strict=True)
                ],
                "learned": {
                    "kinds": identifier.kinds,
                    "settings": identifier.settings,
                    "victims": identifier.victims,
                    "features": identifier.extractor,
                    "called unknown though known": identifier.refused,
                    "said to be attacked though not": identifier.accused,
                    "confusion": identifier.confusion.tolist(),
                },
            }
        )
        return 0
    for path, guess in zip(image, results, strict=True):
        print_line(f"{path}: {guess}")
    return 0


def _check_layer(extractor: nn.Module, plan: Plan, columns: Sequence[str]) -> None:
    """Reject a layer that the extractor does not have, if a column uses its features."""
    if any(replace(plan, **SCENARIOS[column]).uses_features for column in columns):  # type: ignore[arg-type]
        layer_of(extractor, plan.layer)

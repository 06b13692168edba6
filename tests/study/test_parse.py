"""Study files: every mistake is a sentence with the field, none a traceback."""

import copy
import json
import random
import re

import pytest
import yaml

from assay.cli import main
from assay.study.parse import StudyError, parse_study, read_study, schema
from runs.builders import STUDY

FULL = """
version: 1
title: Everything
about: All that a study may say.
models:
  clean: {train: {objective: clean, epochs: 3, trail: true, milestones: [2], rate: 1e-3}}
  robust: {train: {objective: pgd-at, eps: 4/255, epochs: 3, attack_steps: 5, start: clean, data: scenes}}
  loaded: {load: model.safetensors, arch: tiny-cnn, defence: "jpeg:quality=50", adaptive: false, data: [scenes]}
data:
  scenes: {load: "scenes:size=16,count=200", limit: 64, seed: 3, foreground: data}
  digits: {load: digits, limit: 64, train_limit: 500}
suite: quick
attacks: ["apgd:steps=20", "dual:steps=10", "fmn:norm=l2,eps=0.5"]
budgets: [{eps: 4/255, norm: linf, background: 20/255}, {eps: 8/255}]
curve: {eps: [1/255, 2/255], background: [8/255]}
seeds: [0, 1]
diagnostics:
  - {ask: [learning, stability], over: clean, data: scenes, epochs: 4}
  - {ask: [gradients, transfer], models: [clean, robust], data: digits, limit: 32, eps: 8/255}
signatures: {victims: [clean, robust], data: scenes, limit: 100, kinds: [pgd, deepfool], eps: [8/255]}
claims:
  - says: Robust training helps.
    source: table 1
    theirs: 50 %
    ours: {robust: robust, attack: "apgd:steps=20", data: scenes}
    less: {robust: clean, attack: "apgd:steps=20", data: scenes}
    unit: points
    least: 0.1
  - {says: More, source: figure 2, ours: {answer: learning, column: accuracy, where: {epoch: 3}}, unit: plain}
run: {slots: 64, search: bfloat16, stop: never, max_forwards: 500, shard: 32, images: broken, device: cpu}
"""


def test_the_full_study_is_right():
    config = parse_study(FULL)
    assert config.budgets[0].background == 20 / 255
    assert config.models["robust"].train.recipe().objective == "pgd-at"
    assert config.models["clean"].train.recipe().milestones == (2,)


def test_all_errors_at_once_with_place_and_suggestion():
    wrong = FULL.replace("epochs: 3, trail", "epochs: many, trail").replace("limit: 64, seed", "limt: 64, seed")
    wrong = wrong.replace("apgd:steps=20", "apdg:steps=20").replace("norm: linf,", "norm: linff,")
    with pytest.raises(StudyError) as caught:
        parse_study(wrong, name="s.yaml")
    text = str(caught.value)
    assert text.startswith("s.yaml: 4 errors")
    assert "models.clean.train.epochs: expected a whole number" in text
    assert "data.scenes.limt: no such field (did you mean 'limit'?)" in text
    assert "attacks[0]: expected one of" in text
    assert "(did you mean 'apgd'?)" in text
    assert "budgets[0].norm: expected 'linf', 'l2' or 'l1', got 'linff' (did you mean 'linf'?)" in text


NAMES = {
    "a model that is not there": (
        "victims: [clean, robust]",
        "victims: [clean, robst]",
        "signatures.victims: expected",
    ),
    "data that is not there": (
        "data: digits, limit: 32",
        "data: digts, limit: 32",
        "diagnostics[1].data: expected one of",
    ),
    "a start that comes later": (
        "start: clean",
        "start: loaded",
        "models.robust.train.start: expected a model trained",
    ),
    "a trail that is not kept": ("over: clean", "over: robust", "diagnostics[0].over: expected a model trained with"),
    "a claim about nobody": ("{robust: robust, attack", "{robust: rob, attack", "claims[0]: expected one of clean"),
    "an attack without a budget": ("fmn:norm=l2,eps=0.5", "fmn:norm=l2,steps=x", "attacks[2]"),
    "both origins": ("{load: model.safetensors,", "{load: m.pt, train: {}, ", "models.loaded: expected either load or"),
    "no budget for training": (
        "objective: pgd-at, eps: 4/255,",
        "objective: pgd-at,",
        "models.robust.train.eps: expected",
    ),
    "a defence that is not there": ("jpeg:quality=50", "jpg:quality=50", "models.loaded.defence"),
    "a defence without its value": ("jpeg:quality=50", "smoothing", "smoothing:sigma: expected a value"),
    "data that nobody knows": ("load: digits", "load: digit", "data.digits.load: expected one of"),
    "two kinds of number": (
        "{robust: robust, attack",
        "{robust: robust, clean: clean, attack",
        "expected exactly one of",
    ),
    "no column": ("column: accuracy, ", "", "claims[1].ours: expected column"),
    "a key twice": ("version: 1", "version: 1\nversion: 1", "line 3, column 1: duplicate key 'version'"),
    "a reference": ("seeds: [0, 1]", "seeds: &s [0, 1]\nabout: *s", "aliases"),
    "an object": ("seeds: [0, 1]", "seeds: !!python/object/apply:os.system [ls]", "could not determine a constructor"),
    "not a number": ("rate: 1e-3", "rate: .nan", "finite"),
    "below zero": ("eps: [1/255, 2/255]", "eps: [-1/255]", "curve.eps[0]: expected a number that is at least 0"),
    "an architecture": ("objective: clean,", "objective: clean, arch: tiny-cn,", "train.arch: expected one"),
    "another scale": ("objective: clean,", "objective: clean, normalize: haf,", "train.normalize: expected"),
    "an objective's value": ("objective: clean,", "objective: 'clean:heat=2',", "models.clean.train.objective: "),
    "an inner attack": ("attack_steps: 5", "attack: 'pgdd:steps=5'", "robust.train.attack: expected"),
    "no teacher": ("objective: clean,", "objective: distillation,", "distillation:teacher: expected the weights"),
    "a teacher of nobody": ("start: clean", "start: clean, teacher: loaded", "got 'teacher=loaded'"),
    "a teacher that comes later": (
        "objective: clean,",
        "objective: distillation, teacher: robust,",
        "models.clean.train.teacher: expected a model trained before",
    ),
    "a start on other data": (
        "epochs: 3, trail: true, milestones: [2], rate: 1e-3}}",
        "epochs: 3, trail: true}, data: [digits]}",
        "models.robust.train.start: expected a model on the same data",
    ),
    "a kind of attack": ("kinds: [pgd, deepfool]", "kinds: [pgdd]", "signatures.kinds[0]: expected one of deepfool"),
    "a column of a table": ("kinds: [pgd,", "columns: [imag], kinds: [pgd,", "signatures.columns[0]: expected one of"),
    "an architecture to learn with": ("kinds: [pgd,", "arch: vgg, kinds: [pgd,", "signatures.arch: expected one"),
    "no victims": ("victims: [clean, robust]", "victims: []", "signatures.victims: "),
    "an answer that nobody asked for": ("answer: learning", "answer: profile", "claims[1] (answer): expected one of"),
    "a device": ("device: cpu", "device: cuda0", "run.device: expected auto, cpu"),
    "one attack": (
        '["apgd:steps=20", "dual:steps=10", "fmn:norm=l2,eps=0.5"]',
        "pgd",
        "attacks: expected a list, such as [first, second]",
    ),
    "true is no number": ("limit: 64, seed", "limit: true, seed", "data.scenes.limit: expected a number, got true"),
    "late milestones": ("milestones: [2]", "milestones: [9]", "train.milestones: expected epochs below 3"),
    "another version": ("version: 1", "version: 2", "version: expected 1, got 2"),
}


@pytest.mark.parametrize("case", NAMES, ids=lambda name: name.replace(" ", "-"))
def test_what_pydantic_cannot_know(case):
    old, new, message = NAMES[case]
    assert old in FULL
    with pytest.raises(StudyError) as caught:
        parse_study(FULL.replace(old, new))
    assert message in str(caught.value)


FIELDS = {
    "epochs: 3, trail: true": "epochs: many, trail: true",
    "limit: 64, seed": "limt: 64, seed",
    "norm: linf,": "norm: linff,",
    "seeds: [0, 1]": "seeds: [0, x]",
    "unit: points": "unit: pints",
    "ask: [gradients, transfer]": "ask: [gradients, transfr]",
    "search: bfloat16": "search: bfloat17",
    "kinds: [pgd, deepfool]": "kinds: [pgdd, deepfool]",
    "source: table 1": "source: table 1\n    sorce: table 2",
    "title: Everything": "about2: x",
    "load: digits,": "load: digit,",
    "apgd:steps=20": "apdg:steps=20",
    "\nmodels:": "\nmodels: 3\nmodel:",
    "claims:": "claims: 3\nclaim:",
    "- says: Robust training helps.": "- sais: Robust training helps.",
    "curve: {eps: [1/255, 2/255]": "curve: {eps: [x, 2/255]",
}
TOLD = {"title: Everything": 2, "\nmodels:": 2, "claims:": 2, "- says: Robust training helps.": 2}


@pytest.mark.parametrize("old", FIELDS)
def test_a_wrong_field_is_no_reason_to_find_fault_with_names(old):
    """One mistake is told as one (two where it is two), whatever is said of names beside it."""
    assert old in FULL
    with pytest.raises(StudyError) as caught:
        parse_study(FULL.replace(old, FIELDS[old]))
    assert str(caught.value).count("\n- ") == TOLD.get(old, 0)


def test_names_are_looked_at_beside_wrong_fields():
    """All in one round: a field, a model that is not there, a claim about nobody, an attack without its budget."""
    wrong = FULL.replace("search: bfloat16", "search: bfloat17").replace("over: clean", "over: cleam")
    wrong = wrong.replace("victims: [clean, robust]", "victims: [clean, robst]")
    wrong = wrong.replace("answer: learning", "answer: profile").replace(
        'attack: "apgd:steps=20", data: scenes}\n    unit', "attack: apdg, data: scenes}\n    unit"
    )
    with pytest.raises(StudyError) as caught:
        parse_study(wrong)
    text = str(caught.value)
    assert "5 errors" in text
    for place in (
        "run.search",
        "diagnostics[0].over",
        "signatures.victims",
        "claims[1] (answer)",
        "claims[0] (attack)",
    ):
        assert f"- {place}: expected" in text


def test_what_hangs_on_a_wrong_field_is_not_told():
    """Of a model whose training is wrong nobody knows whether it has a trail; of wrong budgets, what claims mean."""
    wrong = FULL.replace("epochs: 3, trail: true", "epochs: 3, trail: perhaps").replace("norm: linf,", "norm: linff,")
    wrong = wrong.replace("ours: {robust: robust, attack: apgd", "ours: {robust: robust, attack: apdg")
    with pytest.raises(StudyError) as caught:
        parse_study(wrong.replace("data: digits, limit: 32", "data: digts, limit: 32"))
    told = sorted(line.partition(": ")[0] for line in str(caught.value).split("\n- ")[1:])
    assert told == ["budgets[0].norm", "diagnostics[1].data", "models.clean.train.trail"]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("signatures: {victims: [clean, robust],", "signatures: {"),  # which its answer hangs on
        ("limit: 64, train_limit: 500}", "limit: 64}\n  more: {limit: 3}"),  # data without their place
    ],
)
def test_what_is_left_out_with_a_wrong_part_is_no_mistake_of_another(old, new):
    text = FULL.replace(
        "{answer: learning, column: accuracy, where: {epoch: 3}}", "{answer: restoration, column: accuracy}"
    )
    assert old in text
    with pytest.raises(StudyError) as caught:
        parse_study(text.replace(old, new))
    assert "(answer)" not in str(caught.value)
    assert "same data" not in str(caught.value)


JUNK = (
    None,
    -1,
    1.5,
    "",
    "nonsense",
    [],
    {},
    [[]],
    True,
    "x" * 5000,
    "\u202e",
    10**30,
    float("inf"),
    ["a", 1],
    {"a": 1},
)


def places(value, at=()):
    yield at
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield from places(inner, (*at, key))


def mutated(seed):
    """The full study with one thing wrong somewhere: a value of another kind, a field gone, or one too many."""
    draw = random.Random(seed)
    content = copy.deepcopy(yaml.safe_load(FULL))
    *before, last = draw.choice([place for place in places(content) if place])
    at = content
    for step in before:
        at = at[step]
    kind = draw.choice(("junk", "junk", "gone", "typo"))
    if kind == "gone":
        del at[last]
    elif kind == "typo" and isinstance(last, str):
        at[last + "x"] = at.pop(last)
    else:
        at[last] = draw.choice(JUNK)
    return yaml.safe_dump(content, allow_unicode=True), ".".join(str(step) for step in (*before, last))


@pytest.mark.parametrize("seed", range(150))
def test_a_mutated_study_is_right_or_a_sentence(seed, tmp_path, capsys):
    """150 studies, each with one thing wrong: exit code 2 and a line that names a field, or a valid study."""
    text, place = mutated(seed)
    file = tmp_path / "study.yaml"
    file.write_text(text)
    try:
        read_study(file)
    except StudyError as error:
        message = str(error)
    else:
        return
    assert len(message) < 6000
    assert main(["run", str(file), "-o", str(tmp_path / "out")]) == 2
    told = capsys.readouterr().err
    assert len(told.splitlines()) == len(message.splitlines())
    assert "Traceback" not in told
    # The field, or those that name it: what refers to a model that is no longer there is told in its own place.
    named = {part.rstrip("x") for part in place.split(".") if not part.isdigit()}
    assert any(name in told for name in named) or "expected one of" in told


BYTES = {
    "truncated": lambda text: text[: len(text) // 3] + "\n  - {",
    "binary": lambda text: bytes(range(256)).decode("latin-1"),
    "tabs": lambda text: text.replace("  ", "\t"),
    "empty": lambda text: "",
    "a list": lambda text: "- 1\n- 2",
    "deep": lambda text: "a: " + "[" * 500 + "]" * 500,
    "json with junk": lambda text: '{"title": 3,}}',
    "two documents": lambda text: text + "\n---\n" + text,
}


@pytest.mark.parametrize("case", BYTES)
def test_files_that_are_no_study(case, tmp_path, capsys):
    file = tmp_path / "s.yaml"
    file.write_text(BYTES[case](FULL), encoding="utf-8")
    assert main(["run", str(file), "-o", str(tmp_path / "out")]) == 2
    told = capsys.readouterr().err
    assert told.startswith("assay: s.yaml: ")
    assert "Traceback" not in told
    assert not (tmp_path / "out").exists()


def test_files_of_other_bytes(tmp_path, capsys):
    for name, content in (("a", b"\xff\xfe\x00"), ("b", b"title: t\n" * 200_000)):
        (tmp_path / name).write_bytes(content)
        assert main(["run", str(tmp_path / name)]) == 2
    assert main(["run", str(tmp_path / "nothing")]) == 2
    assert main(["run", str(tmp_path)]) == 2
    assert main(["run"]) == 2
    assert "Traceback" not in capsys.readouterr().err


def test_set_changes_one_field():
    config = parse_study(STUDY, ["run.shard=4", "data.scenes.limit=12", "attacks[0]=apgd:steps=3", "curve.eps=[1/255]"])
    assert (config.run.shard, config.data["scenes"].limit, config.attacks[0]) == (4, 12, "apgd:steps=3")
    assert config.curve.eps == (1 / 255,)


@pytest.mark.parametrize("change", ["run.shard", "=3", "attacks[9]=pgd", "title.x=1", "run.shard=[", "run.shrd=3"])
def test_a_set_that_cannot_be(change):
    with pytest.raises(StudyError):
        parse_study(STUDY, [change])


def test_the_schema_is_json_schema(capsys):
    told = json.loads(schema())
    assert told["title"] == "Config"
    assert "Training" in told["$defs"]
    assert main(["run", "--json-schema"]) == 0
    assert json.loads(capsys.readouterr().out) == told


NUMBERS = {
    "limit: 010": "expected a number in decimal digits or a text in quotes, got 010",
    "limit: 0x10": "got 0x10",
    "limit: 1_0": "got 1_0",
    "limit: 1:30": "got 1:30",
    "limit: 0b11": "got 0b11",
}


@pytest.mark.parametrize("text", NUMBERS)
def test_numbers_that_are_read_in_two_ways_are_refused(text):
    with pytest.raises(StudyError, match=re.escape(NUMBERS[text])) as caught:
        parse_study(STUDY.replace("limit: 24", text))
    assert "line 7" in str(caught.value)


TWICE = {
    "seeds": STUDY + "seeds: [0, 1, 0]\n",
    "models.other.data": STUDY.replace("seed: 1}}", "seed: 1}, data: [scenes, scenes]}"),
    "diagnostics[0].ask": STUDY + "diagnostics: [{ask: [parameters, parameters]}]\n",
    "diagnostics[0].models": STUDY + "diagnostics: [{ask: [parameters], models: [clean, clean]}]\n",
    "signatures.victims": STUDY + "signatures: {victims: [clean, clean]}\n",
}


@pytest.mark.parametrize("place", TWICE)
def test_what_is_named_twice_is_refused(place):
    with pytest.raises(StudyError) as caught:
        parse_study(TWICE[place])
    assert f"study: {place}: expected values that all differ, got " in str(caught.value)
    assert "errors" not in str(caught.value)


@pytest.mark.parametrize("more", ["", "seedz: [1]\n"])
def test_a_name_with_a_semicolon_is_one_error(more):
    with pytest.raises(StudyError) as caught:
        parse_study(STUDY + 'claims: [{says: so, ours: {robust: "x; y: z"}}]\n' + more)
    wanted = "claims[0]: expected one of clean, other, got 'x; y: z'"
    assert wanted in str(caught.value)
    assert str(caught.value).count("expected") == 1

"""Mistakes that were made once: curves and claims, finished runs, random models, locks, names, odd values."""

import json
import socket
import sys
import threading

import pytest

from assay.attacks.plan import plan
from assay.cli import main
from assay.core.combinators import MOST, Restarts
from assay.report.model_card import write_cards
from assay.report.server import serve
from assay.store import lock as storage
from assay.store.cell_key import fields_of
from assay.store.compare import compare
from assay.store.integrity.verify import verify
from assay.store.ledger import Ledger
from assay.store.lock import hold_run, holder
from assay.store.manifest import MANIFEST
from assay.store.status import read_status
from assay.study.parse import StudyError, parse_study
from runs.builders import STUDY, study

EVALUATE = ["--data", "scenes:size=16,count=120", "--limit", "16", "--quiet"]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    words = ["train", "--data", "scenes:size=16,count=120", "-o", str(folder), "--epochs", "1", "--quiet"]
    assert main(words) == 0
    return folder / "model.safetensors"


def written(tmp_path, text=STUDY):
    file = tmp_path / "study.yaml"
    file.write_text(text)
    return str(file)


def test_a_claim_that_is_also_a_point_of_a_curve_is_a_claim(model, tmp_path, capsys):
    run = tmp_path / "run"
    assert (
        main(
            [
                "evaluate",
                "--model",
                str(model),
                *EVALUATE,
                "-o",
                str(run),
                "--attack",
                "pgd:steps=20",
                "--eps",
                "8/255",
                "--curve",
                "4/255",
            ]
        )
        == 0
    )
    cells = {(c.names.attack, c.names.curve) for c in read_status(run).cells}
    assert ("PGD-20 linf 8/255", None) in cells
    assert ("PGD-20 linf 8/255", "PGD-20 linf") in cells
    with Ledger(run) as ledger:
        key = next(iter(ledger.meta("checks").values()))
        found = {a["check"]: a for a in ledger.answer(key)["checks"]}
    assert found["B1"]["about"] == "PGD-20 linf 8/255"
    assert "nothing was attacked" not in found["C6"]["text"]


def test_settings_of_other_libraries_are_part_of_the_identity():
    from trust.test_budgets import theirs

    keys = [
        fields_of(
            "m",
            "d",
            "c",
            theirs(steps),
            adaptation=None,
            stop="hit",
            search="float32",
            seed=0,
            max_forwards=None,
            device="cpu",
        )["attack"]
        for steps in (1, 40)
    ]
    assert keys[0] != keys[1]


def test_what_goes_on_is_not_finished(tmp_path, monkeypatch, capsys):
    """The manifest of before is no sign of the run that came after it."""
    run, file = tmp_path / "run", written(tmp_path)
    words = ["run", file, "-o", str(run), "--quiet", "--set", "run.checks=none"]
    assert main([*words, "--set", "models.other.train.epochs=1"]) == 0
    assert read_status(run).finished
    from assay.study import run as studies

    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(studies, "run_session", interrupted)
    assert main([*words, "--set", "attacks[0]=pgd:steps=6"]) == 130
    monkeypatch.undo()
    assert not (run / MANIFEST).exists()
    assert not read_status(run).finished
    assert not any("changed since" in fault for fault in verify(run, models=False).faults)
    assert main(["report", str(run)]) == 0
    assert not read_status(run).finished
    assert main(words) == 0
    assert read_status(run).finished


def test_verify_shows_random_models_their_images_several_times(tmp_path, capsys):
    train = [
        "train",
        "--data",
        "scenes:size=16,count=240",
        "-o",
        str(tmp_path / "m"),
        "--arch",
        "tiny-cnn+noise",
        "--epochs",
        "4",
        "--quiet",
    ]
    assert main(train) == 0
    run = tmp_path / "run"
    assert (
        main(
            [
                "evaluate",
                "--model",
                str(tmp_path / "m" / "model.safetensors"),
                *EVALUATE,
                "-o",
                str(run),
                "--defence",
                "rse",
                "--attack",
                "pgd:steps=5",
                "--checks",
                "none",
                "--eps",
                "2/255",
            ]
        )
        == 0
    )
    found = verify(run)
    assert found.measured
    assert found.faults == ()
    assert verify(run).flipped == found.flipped < found.measured


def test_attacks_that_did_not_run_are_no_same_attacks(tmp_path, capsys):
    run, file = tmp_path / "run", written(tmp_path)
    words = ["run", file, "-o", str(run), "--quiet", "--set", "run.checks=none"]
    assert main(words) == 0
    with Ledger(run, write=True) as ledger, ledger.transaction() as db:
        (last,) = [e.id for e, w in ledger.plan() if w.model == "other" and "Square" in w.attack]
        db.execute("DELETE FROM shard WHERE cell = ?", (last,))
        db.execute("DELETE FROM sample WHERE cell = ?", (last,))
    (pair,) = compare(run)
    assert not pair.same_attacks


def test_runs_without_a_common_result_are_not_compared(tmp_path, capsys):
    run, file = tmp_path / "run", written(tmp_path)
    assert main(["run", file, "-o", str(run), "--quiet", "--set", "run.checks=none"]) == 0
    with Ledger(run, write=True) as ledger, ledger.transaction() as db:
        db.execute("DELETE FROM shard")
        db.execute("DELETE FROM sample")
    with pytest.raises(ValueError, match=r"samples that have a result on both sides .* got none of"):
        compare(run)


def test_a_teacher_is_a_model_of_the_study(tmp_path, capsys):
    """A file named in the objective would be code that runs without being asked for."""
    with pytest.raises(StudyError, match="`teacher` names a model of the study"):
        study("models.clean.train.objective=distillation:teacher=evil:boom")


def test_the_same_images_twice_are_refused(tmp_path, capsys):
    text = STUDY.replace("limit: 24}", "limit: 24}\n  again: {load: 'scenes:size=16,count=120', limit: 24}")
    assert main(["run", written(tmp_path, text), "-o", str(tmp_path / "run"), "--quiet"]) == 2
    assert "data.again: expected images other than those of scenes, got the same ones" in capsys.readouterr().err


def test_a_claim_says_which_data_it_is_about():
    two = STUDY.replace("limit: 24}", "limit: 24}\n  digits: {load: digits}")
    claims = "\nclaims: [{says: so, ours: {robust: clean}}]\n"
    with pytest.raises(StudyError, match=r"claims\[0\]: expected data, one of scenes, digits, as there are several"):
        parse_study(two + claims)
    assert parse_study(STUDY + claims).claims


def test_a_claim_without_a_budget_is_about_the_verdict():
    from assay.store.judged_claims import judge_claims
    from report.builders import B, S, cell
    from report.builders import study as made

    cells = cell([S, S, B, B], "m", "PGD"), cell([B, B, B, B], "m", "C&W", budget="none")
    shown = made(*cells, headline=("8/255",))
    (found,) = judge_claims([{"says": "so", "ours": {"robust": "m"}}], {"d": shown}, [])
    assert found.ours == "50.0\N{NO-BREAK SPACE}%"


def test_one_idle_connection_stops_nobody(tmp_path):
    import http.client

    with serve(tmp_path, 0) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        with socket.create_connection(("127.0.0.1", server.server_port)):
            connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=20)
            connection.request("GET", "/", headers={"Host": "127.0.0.1"})
            assert connection.getresponse().status == 200
            connection.close()
        server.shutdown()
        thread.join()


def test_looking_at_a_run_does_not_keep_anyone_from_it(tmp_path):
    with hold_run(tmp_path):
        assert holder(tmp_path).startswith("process ")
    stop, seen = threading.Event(), []

    def look():
        while not stop.is_set():
            seen.append(holder(tmp_path))

    watchers = [threading.Thread(target=look) for _ in range(3)]
    for watcher in watchers:
        watcher.start()
    try:
        for _ in range(20):
            with hold_run(tmp_path):
                pass
    finally:
        stop.set()
        for watcher in watchers:
            watcher.join()
    assert seen
    assert holder(tmp_path) == ""


@pytest.mark.parametrize("shared", [True, False], ids=["shared locks", "without"])
def test_who_holds_a_folder_is_told(tmp_path, monkeypatch, shared):
    assert holder(tmp_path / "nowhere") == ""
    with hold_run(tmp_path):
        if not shared:
            monkeypatch.setitem(sys.modules, "fcntl", None)
        assert holder(tmp_path).startswith("process ")
    assert holder(tmp_path) == ""


def test_a_plan_of_a_folder_that_is_written_to_only_reads(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(storage, "_PATIENCE", 0.05)
    with hold_run(tmp_path / "run"):
        assert main(["run", written(tmp_path), "-o", str(tmp_path / "run"), "--explain", "--quiet"]) == 0
    assert "its model is not trained yet" in capsys.readouterr().out
    assert not list((tmp_path / "run").glob("models"))


ODD = {
    "a seed beyond 64 bits": ("run: {shard: 8}", "run: {shard: 8}\nseeds: [9223372036854775808]", "seeds[0]"),
    "no budgets": ("budgets: [{eps: 8/255}]", "budgets: []", "budgets"),
    "half a draw": ('"pgd:steps=5"', '"noise:draws=0.5"', "attacks[0]"),
    "a budget beyond floats": ("eps: 8/255", "eps: '1e400'", "budgets[0].eps"),
    "steps beyond floats": ('"pgd:steps=5"', '"pgd:steps=1e400"', "attacks[0]"),
    "restarts beyond memory": ('"pgd:steps=5"', '"pgd:steps=5,restarts=1e30"', "attacks[0]"),
    "a tag on a word": ("title: Small", "title: !!bool maybe", "tags"),
    "a tag on nothing": ("title: Small", "title: !!int ''", "study"),
    "a date that is none": ("title: Small", "title: !!timestamp x", "tags"),
}


@pytest.mark.parametrize("case", ODD)
def test_odd_values_are_a_sentence_with_their_place(case):
    old, new, place = ODD[case]
    assert old in STUDY
    with pytest.raises(StudyError) as caught:
        parse_study(STUDY.replace(old, new))
    assert place in str(caught.value)


def test_a_place_in_other_digits():
    with pytest.raises(StudyError, match="expected a place from 0 to 1"):
        study("attacks[²]=fgsm")


def test_nobody_asks_for_more_restarts_than_there_are_addresses():
    with pytest.raises(ValueError, match=f"n: expected at most {MOST} restarts"):
        Restarts(plan("pgd", eps=0.1).attack, MOST + 1)


def test_names_that_look_alike_have_cards_of_their_own(tmp_path, capsys):
    text = STUDY.replace("  clean: {", "  at 4/255: {").replace("  other: {", "  at-4-255: {")
    run = tmp_path / "run"
    assert main(["run", written(tmp_path, text), "-o", str(run), "--quiet", "--set", "run.checks=none"]) == 0
    made = write_cards(run, [json.loads((run / "summary.json").read_text())])
    assert len({path.name for path in made}) == 2
    assert "at 4/255" in made[0].read_text()


def test_the_command_that_goes_on_names_the_device(model, tmp_path, capsys):
    run = tmp_path / "run"
    assert (
        main(
            [
                "evaluate",
                "--model",
                str(model),
                *EVALUATE,
                "-o",
                str(run),
                "--attack",
                "fgsm",
                "--device",
                "cpu",
                "--checks",
                "none",
                "--title",
                "A title",
            ]
        )
        == 0
    )
    command = read_status(run).command
    assert "--device cpu" in command
    assert "--title 'A title'" in command

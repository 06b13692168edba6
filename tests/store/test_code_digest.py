"""Which code makes a result stale: what computes it, and nothing else."""

import shutil

import pytest

import assay
from assay.attacks import PGD
from assay.attacks.plan import plan
from assay.store.code_digest import SOURCE, code_digest, modules_of


def digest(spec, source):
    planned = plan(spec, eps=0.1)
    return code_digest("assay.engine.api", planned.source, *modules_of(planned.attack), source=source)


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    place = tmp_path_factory.mktemp("code") / "assay"
    shutil.copytree(SOURCE, place, ignore=shutil.ignore_patterns("__pycache__", "templates"))
    return place


@pytest.mark.parametrize(
    ("changed", "stale", "kept"),
    [
        ("attacks/pgd.py", ("pgd", "bim", "mim"), ("deepfool", "square", "apgd")),
        ("attacks/blackbox/square.py", ("square", "standard"), ("pgd", "fab")),
        ("attacks/hyperplane.py", ("fab", "standard"), ("pgd", "cw-l2")),
        ("engine/referee.py", ("pgd", "fab", "square", "standard"), ()),
        ("core/oracle.py", ("pgd", "fab", "square", "standard"), ()),
        ("parts/step_rules.py", ("pgd", "mim"), ("one-pixel",)),
        ("util/progress.py", (), ("pgd", "fab", "square", "standard")),
        ("report/page.py", (), ("pgd", "fab", "square", "standard")),
        ("runs/scheduler.py", (), ("pgd", "fab", "square", "standard")),
        ("cli/output.py", (), ("pgd", "fab", "square", "standard")),
        ("diagnostics/transfer.py", (), ("pgd", "fab", "square", "standard")),
    ],
)
def test_a_comment_makes_stale_what_the_file_computes(copy, tmp_path, changed, stale, kept):
    before = {name: digest(name, copy) for name in (*stale, *kept)}
    after = tmp_path / "assay"
    shutil.copytree(copy, after)
    with (after / changed).open("a") as file:
        file.write("# another comment\n")
    assert {name for name in before if digest(name, after) != before[name]} == set(stale)


def test_the_file_of_a_foreign_attack_counts():
    class Mine:
        pass

    assert __name__ in modules_of((Mine(), PGD(0.1)))
    assert modules_of(PGD(0.1)) == modules_of(PGD(0.2))
    assert code_digest("assay.engine.api", "tabnanny") != code_digest("assay.engine.api")
    assert assay.__file__.startswith(str(SOURCE))


def test_a_module_without_a_file_is_left_out():
    assert code_digest("assay.engine.api", "no.such.module", "sys") == code_digest("assay.engine.api")

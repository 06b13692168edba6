"""Which code makes a result stale: what computes it, and nothing else."""

import shutil

import pytest

import assay
from assay.attacks.plan import plan
from assay.core.fingerprint import fingerprint
from assay.util.code_digest import SOURCE, code_digest, warn_of_other_code


def digest(spec, source):
    planned = plan(spec, eps=0.1)
    return code_digest("assay.engine.api", planned.source, *fingerprint(planned.attack).modules, source=source)


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


def test_the_file_of_an_installed_package_counts():
    assert code_digest("assay.engine.api", "tabnanny") != code_digest("assay.engine.api")
    assert assay.__file__.startswith(str(SOURCE))


def test_a_folder_stands_for_all_of_its_modules(copy):
    every = code_digest("assay.trust.*", source=copy)
    assert every != code_digest("assay.trust", source=copy)
    with (copy / "trust" / "registry.py").open("a") as file:
        file.write("# another comment\n")
    code_digest.cache_clear()
    assert code_digest("assay.trust.*", source=copy) != every


def test_what_other_code_trained_is_kept_with_a_warning(tmp_path):
    warn_of_other_code("a", "a", tmp_path)
    with pytest.warns(UserWarning, match="another version of assay's code, and is kept"):
        warn_of_other_code("", "a", tmp_path)


def test_a_module_without_a_file_is_left_out():
    assert code_digest("assay.engine.api", "no.such.module", "sys") == code_digest("assay.engine.api")

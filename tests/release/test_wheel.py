"""The wheel and the source archive: built, installed in an environment of their own, and the demo run from there."""

import os
import subprocess
import sys
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

pytestmark = [pytest.mark.wheel, pytest.mark.timeout(1200)]

ROOT = Path(__file__).parents[2]


def run(*command, folder, **more):
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL_ENV"))}
    done = subprocess.run(
        list(map(str, command)), cwd=folder, env=environment, capture_output=True, text=True, check=False, **more
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def archives(tmp_path_factory):
    """The source archive of what git knows, and the wheel that is built from that archive alone."""
    folder = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--quiet", "--outdir", folder, ROOT, folder=folder)
    (source,), (wheel,) = folder.glob("*.tar.gz"), folder.glob("*.whl")
    return source, wheel


def test_the_archives_hold_what_they_need(archives):
    source, wheel = archives
    names = zipfile.ZipFile(wheel).namelist()
    for part in (
        "py.typed",
        "__init__.pyi",
        "cli/catalogue.json",
        "study/template.yaml",
        "report/templates/report.css",
    ):
        assert f"assay/{part}" in names
    assert not [name for name in names if name.split("/")[0] not in ("assay",) and ".dist-info" not in name]
    with tarfile.open(source) as archive:
        inside = {name.partition("/")[2] for name in archive.getnames()}
    assert {"README.md", "LICENSE", "pyproject.toml", "src/assay/py.typed"} <= inside
    assert not [name for name in inside if name.startswith(("runs/", "site/", ".venv", "benchmarks/.peers"))]


def test_the_demo_runs_from_the_wheel(archives, tmp_path):
    _, wheel = archives
    venv.create(tmp_path / "env", with_pip=True)
    binaries = tmp_path / "env" / "bin"
    constraints = ROOT / "constraints.txt"
    run(binaries / "pip", "install", "--quiet", "--constraint", constraints, "torch", folder=tmp_path)
    run(binaries / "pip", "install", "--quiet", "--constraint", constraints, f"{wheel}[train,digits]", folder=tmp_path)
    where = run(binaries / "python", "-c", "import assay; print(assay.__file__)", folder=tmp_path)
    assert Path(where.strip()).is_relative_to(tmp_path / "env")
    run(binaries / "assay", "doctor", folder=tmp_path)
    run(binaries / "assay", "demo", "--small", "--quiet", folder=tmp_path)
    assert (tmp_path / "runs" / "demo" / "report.html").stat().st_size > 50_000

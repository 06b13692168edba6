"""The house: who may import whom, what is public, how long an import takes, rules of the code."""

import ast
import json
import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

import assay

SOURCE = Path(assay.__file__).parent
FILES = sorted(SOURCE.rglob("*.py"))
LAYERS = (
    "util",
    "core",
    "parts",
    "engine",
    "data",
    "masks",
    "models",
    "corruptions",
    "attacks",
    "defences",
    "certify",
    "training",
    "diagnostics",
    "signatures",
    "testing",
    "trust",
    "store",
    "report",
    "runs",
    "study",
    "cli",
)
"""The folders from the ground up: a module imports from its own folder and from those before it."""
APART = {"parts": {"engine"}, "engine": {"parts"}, "masks": {"engine"}, "report": {"engine", "trust"}}
"""Folders that a folder may not import from, though they come before it."""
DRIVERS = ("attacks/universal_perturbations/", "attacks/peers/")
"""Attacks that call a model themselves; the others know the contract and its parts alone."""
LARGEST: dict[str, int] = {}


def module(path):
    """The dotted name of a file."""
    name = ".".join(("assay", *path.relative_to(SOURCE).with_suffix("").parts))
    return name.removesuffix(".__init__")


MODULES = {module(path): path for path in FILES}


def imports(path):
    """Modules of assay that a file imports, wherever in the file, also for types alone."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}: import from assay, not from a relative place"
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                if inner in MODULES or node.module in MODULES:
                    yield inner if inner in MODULES else node.module
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in MODULES)


IMPORTS = {name: set(imports(path)) for name, path in MODULES.items()}


def folder(name):
    """The folder of a module; empty for assay itself."""
    return name.split(".")[1] if name.count(".") else ""


@pytest.mark.parametrize("name", [name for name in MODULES if folder(name) in LAYERS])
def test_imports_go_down(name):
    here = folder(name)
    below = set(LAYERS[: LAYERS.index(here) + 1]) - APART.get(here, set())
    if here == "attacks" and not any(place in MODULES[name].as_posix() for place in DRIVERS):
        below -= {"engine"}
    assert {other for other in IMPORTS[name] if folder(other) not in below} == set()


def test_no_modules_import_each_other():
    from graphlib import TopologicalSorter

    order = TopologicalSorter({name: IMPORTS[name] - {name} for name in MODULES})
    assert list(order.static_order())  # raises CycleError, with the circle


@pytest.mark.parametrize("name", [name for name, path in MODULES.items() if path.name != "__init__.py"])
def test_modules_import_from_modules(name):
    """Not what a folder gathers for users, which may still be at it: two threads would wait for each other."""
    eager = {other for other, path in MODULES.items() if path.name == "__init__.py" and "lazy" not in path.read_text()}
    for node in ast.walk(ast.parse(MODULES[name].read_text())):
        assert not (isinstance(node, ast.ImportFrom) and node.module in eager), f"line {node.lineno}: {node.module}"


def test_a_name_of_a_lazy_folder_is_no_module_of_it():
    """The module would take its place as soon as somebody imports it."""
    for stub in sorted(SOURCE.rglob("__init__.pyi")):
        names = {alias.name for node in ast.parse(stub.read_text()).body for alias in getattr(node, "names", ())}
        modules = {path.stem for path in stub.parent.glob("*.py")}
        assert names & modules == set(), stub


def test_two_threads_may_import_at_once():
    code = (
        "import threading, assay\nwrong = []\n"
        "def use(name):\n    try: dir(getattr(assay, name))\n    except Exception as error: wrong.append(error)\n"
        "threads = [threading.Thread(target=use, args=(name,)) for name in ('trust', 'report', 'data', 'runs')]\n"
        "[thread.start() for thread in threads]; [thread.join() for thread in threads]\nassert not wrong, wrong"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_every_folder_is_a_layer_of_few_modules():
    inside = {path.parent.relative_to(SOURCE).as_posix() for path in FILES} - {"."}
    assert {place.split("/")[0] for place in inside} == set(LAYERS)
    for place in inside:
        modules = [path.stem for path in (SOURCE / place).glob("*.py")]
        counted = [name for name in modules if name not in ("__init__", "__main__", "registry")]
        assert len(counted) <= LARGEST.get(place, 25), place


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(SOURCE)))
def test_rules_of_the_code(path):
    text = path.read_text()
    tree = ast.parse(text)
    assert len(text.splitlines()) <= 350
    assert ast.get_docstring(tree) or not text.strip()
    assert not [n for n in ast.walk(tree) if isinstance(n, ast.Assert)]
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            described = ast.get_docstring(node) is not None
            first = node.body[min(int(described), len(node.body) - 1)].lineno
            assert node.end_lineno - first < 90, f"{node.name} is {node.end_lineno - first + 1} lines long"
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            assert node.func.id not in ("print", "eval", "exec")
    if path.name == "__init__.py":
        assert all(isinstance(n, ast.Expr | ast.Import | ast.ImportFrom | ast.Assign) for n in tree.body)


DIALECT = ("found", "told", "made", "asked", "had", "given", "heeded")
"""Words that say how a value was come by, not what it is."""
FORMER = {
    "Answered", "Area", "Asked", "Asking", "CheckOrder", "Checked", "Claimed", "Conducted", "Described", "Done",
    "Drawn", "Exam", "Extras", "Finished", "Foreseen", "Found", "Job", "Judge", "Known", "Lesson", "Measured",
    "OnRay", "Order", "Origin", "Paired", "Part", "Rechecked", "Shown", "Standing", "Subject", "Ticket", "Told",
    "Wanted", "Words", "alone", "askings", "conduct", "crossing", "drive", "examine", "finish", "foresee",
    "handed_out", "heeded", "kind_of", "looked_at", "looker", "lesson_of", "origins", "rehearsed", "spread_rows",
    "tidy", "unanswered", "unseal", "untouched", "wanted",
}  # fmt: skip
"""Names of 0.1 that nobody could map."""


def bound_names():
    """Every name that is defined anywhere in the code, with its file."""
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Name | ast.Attribute) and isinstance(node.ctx, ast.Store):
                yield (node.id if isinstance(node, ast.Name) else node.attr), path
            elif isinstance(node, ast.arg):
                yield node.arg, path
            elif isinstance(node, ast.FunctionDef | ast.ClassDef):
                yield node.name, path


def test_names_say_what_a_value_is():
    names = list(bound_names())
    assert sum(name in DIALECT for name, _ in names) <= 20
    defined = {node.name for path in FILES for node in ast.parse(path.read_text()).body
               if isinstance(node, ast.FunctionDef | ast.ClassDef)}  # fmt: skip
    assert defined & FORMER == set()


def identifiers():
    """All that is named in the package: modules, classes, functions, parameters, attributes, imports."""
    names = set()
    for path in FILES:
        names.update(path.relative_to(SOURCE.parent).with_suffix("").parts)
        for node in ast.walk(ast.parse(path.read_text())):
            kinds = (getattr(node, field, None) for field in ("id", "attr", "arg", "name", "asname", "module"))
            names.update(part for name in kinds if isinstance(name, str) for part in name.split("."))
    return names


def test_what_a_docstring_refers_to_exists():
    """A name in single backticks is one of the package: what was renamed is renamed in words, too."""
    known, gone = identifiers(), []
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                for reference in re.findall(r"(?<!`)`([A-Za-z_][\w.]*)(?:\([^`]*\))?`(?!`)", node.value):
                    gone += [f"{path.name}: {reference}" for part in reference.split(".") if part not in known]
    assert not gone, gone


def test_the_formatter_is_obeyed():
    skipped = [path for path in FILES if "fmt: skip" in path.read_text() or "fmt: off" in path.read_text()]
    assert len(skipped) <= 5


def test_public_names_are_as_recorded():
    """A name that disappears breaks users: change the record on purpose."""
    recorded = json.loads((Path(__file__).parent / "api.json").read_text())
    assert surface() == recorded


def surface():
    import importlib

    parts = (
        "attacks",
        "corruptions",
        "data",
        "defences",
        "diagnostics",
        "masks",
        "models",
        "report",
        "runs",
        "signatures",
        "training",
        "trust",
    )
    modules = ("assay", *(f"assay.{part}" for part in parts))
    return {name: sorted(importlib.import_module(name).__all__) for name in modules}


def test_every_public_name_has_a_docstring():
    for name in assay.__all__:
        assert getattr(assay, name).__doc__


def test_import_costs_little_more_than_torch():
    """Plotting, statistics and optional libraries wait until they are needed."""
    code = (
        "import time, sys; t = time.perf_counter(); import torch; a = time.perf_counter();"
        "import assay; assay.PGD; assay.attack; b = time.perf_counter();"
        "print((b - a) / (a - t));"
        "print([m for m in ('matplotlib', 'scipy', 'accelerate', 'jinja2', 'sklearn', 'cyclopts', 'rich',"
        " 'pyarrow', 'pydantic', 'yaml', 'filelock') if m in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.splitlines()
    assert float(out[0]) < 0.4  # a tenth where nothing else runs
    assert out[1] == "[]"


def test_it_runs_with_every_extra_blocked():
    """Core, attacks and the made data need nothing optional, and no torchvision."""
    code = """
import sys
for name in ("torchvision", "timm", "transformers", "datasets", "pyarrow", "sklearn", "accelerate", "pandas"):
    sys.modules[name] = None
import torch, assay
from assay.data import load
from assay.models import build
d = load("scenes:size=16,count=8")
m = build("tiny-cnn", channels=3, classes=8, size=16).eval()
print(assay.attack(m, d.images(), d.y, assay.PGD(0.1, steps=2), preflight=False).name)
"""
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert out.stdout.strip() == "PGD-2 linf 0.1", out.stderr


def test_the_catalogue_and_the_reference_are_up_to_date(capsys):
    """`make docs` writes them."""
    from assay.cli import main
    from assay.cli.catalogue import FILE, to_json

    assert FILE.read_text(encoding="utf-8") == to_json()
    assert main(["ls", "--markdown"]) == 0
    assert capsys.readouterr().out == (Path(__file__).parents[1] / "docs/reference.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("path", sorted(Path(__file__).parents[1].glob("benchmarks/*.py")), ids=lambda path: path.stem)
def test_what_benchmarks_import_exists(path):
    """They run for hours, seldom: a renamed function would be found at the end."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("assay"):
            for alias in node.names:
                module = import_module(node.module)
                assert hasattr(module, alias.name) or f"{node.module}.{alias.name}" in MODULES, alias.name


def test_counts_in_the_documentation_are_true():
    """What is counted in words there, and would be wrong one attack or check later."""
    from assay.attacks.registry import ATTACKS
    from assay.diagnostics.registry import DIAGNOSTICS
    from assay.training.objectives.registry import OBJECTIVES
    from assay.trust.registry import CHECKS
    from trust.failures.seen import FAILURES
    from trust.test_failures import OWN_CHECK
    from trust.zoo import ZOO

    root = Path(__file__).parents[1]
    readme, trust = ((root / name).read_text() for name in ("README.md", "docs/trust.md"))
    names = {*OWN_CHECK.values(), *(ZOO[name][0] for name in ZOO)}
    with_failure = len({"B13", "C13", "C16", "C17", "E9", *names} & set(CHECKS))  # these have tests of their own
    assert f"assay ls attacks            # {len(ATTACKS)};" in readme
    harden, diagnose = ((root / f"docs/{name}.md").read_text() for name in ("harden", "diagnose"))
    assert "has twenty-three objectives" in harden
    assert len(OBJECTIVES) == 23
    assert all(f"| {name} | {check.title}" in trust for name, check in CHECKS.items())
    assert all(entry.question in diagnose for entry in DIAGNOSTICS.values())
    table = readme.partition("## Attacks\n")[2].partition("\n## ")[0]
    assert set(ATTACKS) <= set(re.findall("`([a-z0-9-]+)`", table))
    assert f"{len(CHECKS)} checks look for what makes it meaningless" in readme
    assert f"plants {len(ZOO)} failures" in trust
    assert f"`tests/trust/failures` plants {len(FAILURES)} in ten kinds" in " ".join(trust.split())
    assert f"so {with_failure} of the {len(CHECKS)} checks have a planted failure" in " ".join(trust.split())


def test_the_help_of_a_command_is_the_first_line_of_its_docstring():
    import importlib

    from assay.cli.main import COMMANDS

    for command in COMMANDS:
        function = getattr(importlib.import_module(f"assay.cli.{command.module}"), command.name)
        assert function.__doc__.splitlines()[0] == command.help


@pytest.mark.parametrize("words", [["--help"], ["--version"], ["ls"], ["ls", "attacks", "--json"], []])
def test_help_and_lists_do_not_import_torch(words):
    code = (
        "import sys; from assay.cli import main; code = main(sys.argv[1:]);"
        "sys.exit(code or 10 * ('torch' in sys.modules) or 20 * ('numpy' in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout) > 4


def test_completion_knows_every_command():
    from assay.cli.main import COMMANDS, app

    script = app().generate_completion(shell="bash")
    assert all(command.name in script for command in COMMANDS)
    assert "--step-size" not in script
    assert "--max-forwards" in script or "--eps" in script


if __name__ == "__main__":
    record = Path(__file__).parent / "api.json"
    record.write_text(json.dumps(surface(), indent=1) + "\n")

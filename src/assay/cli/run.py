"""``assay run``: a study, from a file."""

import sys
import tempfile
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from assay.cli.output import print_json, print_line, print_table, same_command
from assay.cli.results import grade_exit_code, print_brackets, print_errors
from assay.runs.executors import Executor, Inline, Local
from assay.store.judged_claims import threshold_of
from assay.study.dry_run import shrink_study
from assay.study.forecast import StudyForecast, forecast
from assay.study.parse import read_study, schema
from assay.study.run import StudyResult, limit_images, refuse_code, run_study
from assay.study.schema import Config
from assay.trust.grading import GRADES
from assay.util.console import console_reporter, print_note
from assay.util.progress import ProgressCallback, Reporter
from assay.util.text import finite, format_count, format_time
from assay.util.validate import one_of, reject, whole

EXECUTORS = ("local", "ray")


def run(
    study: Path | None = None,
    /,
    *,
    out: Annotated[Path, Parameter(name=["--out", "-o"])] = Path("runs/study"),
    set_: Annotated[list[str] | None, Parameter(name="--set")] = None,
    limit: int | None = None,
    plan: bool = False,
    explain: bool = False,
    dry_run: bool = False,
    accept_stale: bool = False,
    executor: str = "local",
    workers: int = 0,
    threads: int | None = None,
    address: str | None = None,
    require: str | None = None,
    trust: bool = False,
    list_claims: bool = False,
    json_schema: bool = False,
    json: bool = False,
    quiet: bool = False,
) -> int:
    """Run a study from a YAML file, or resume it.

    Parameters
    ----------
    study
        A YAML file; see studies/ for examples, --json-schema for what it may say.
    out
        The run's folder: ledger.sqlite, images/, and at the end the tables, report.html and manifest.json.
    set_
        Another value for a field, such as run.slots=64 or data.scenes.limit=32. Repeat for several.
    limit
        At most so many images of each data set.
    plan
        List trainings, attacks, diagnostics and signatures, what of them is there, and what the rest costs, without
        running or training anything; neither the data nor the accelerator need to be there.
    explain
        Explain for each cell why its result is reused or not.
    dry_run
        Test the whole study with 8 images of each data set, one epoch and 10 passes an attack, in a temporary folder;
        on made images where the data are not there.
    accept_stale
        Reuse results that differ only in the version of assay or torch; the report says
        so.
    executor
        local or ray.
    workers
        Processes that attack; 0 attacks in this process.
    threads
        Threads of each worker; by default the processors are shared among them.
    address
        Address of a Ray cluster, such as auto or ray://head:10001; by default Ray is started locally.
    require
        Exit with 3 if a model's grade is below this: weak, standard, strong or closed.
    trust
        Run the code that the study names to get models (package.module:function), as evaluate does for models that are
        named on the command line. Somebody else's study could name anything.
    list_claims
        List the paper's figures and tables with what of the study shows each, and its claims; nothing is run.
    json_schema
        Print the JSON Schema of study files, for editors.
    json
        Print the summary as JSON.
    quiet
        No progress.
    """
    command = same_command(run, locals(), without=("json", "quiet", "require"))
    if json_schema:
        sys.stdout.write(schema() + "\n")
        return 0
    if study is None:
        reject("study", "a YAML file (see: assay run --help)", None)
    if require is not None:
        one_of("require", require, GRADES)
    config = read_study(study, set_ or ())
    if list_claims:
        return _list_claims(config)
    if not trust:
        refuse_code(config)
    if limit is not None:
        config = limit_images(config, whole("limit", limit, least=1))
    one_of("executor", executor, EXECUTORS)
    if plan or explain:
        quiet_reporter = Reporter() if quiet or json else Reporter(print_note)
        planned = forecast(config, out, costs=plan, accept_stale=accept_stale, reporter=quiet_reporter)
        return _print_plan_json(planned) if json else _show_plan(planned, costs=plan)
    if dry_run:
        return _run_small(config, quiet=quiet)
    with console_reporter(quiet=quiet or json, notes=not quiet) as reporter:
        result = run_study(
            config,
            out,
            command=command,
            reporter=reporter,
            executor=_executor(executor, workers, threads, address, config.settings.device, reporter.samples),
            accept_stale=accept_stale,
        )
    return _report_result(result, require, json=json)


def _report_result(result: StudyResult, require: str | None, *, json: bool) -> int:
    """Say how a study ended; the exit code."""
    if json:
        print_json(result.summary)
    if result.session.signal:
        print_note("interrupted; run the same command to resume")
        return 128 + result.session.signal
    if not json:
        for study in result.summary.get("studies", [result.summary]):
            print_brackets(study)
        print_line(f"report: {result.report}")
    for failure in result.session.failures:
        print_note(f"failed: {failure.label}: {failure.error}")
    for name in result.unanswered:
        print_note(f"failed: {name} (its section of the report says why); run the same command to try it again")
    errors = print_errors(result.session.errors, result.session.first_error)
    return 1 if errors or result.failed else grade_exit_code(result.session.grades, require)


def _executor(
    kind: str, workers: int, threads: int | None, address: str | None, device: str, progress: ProgressCallback | None
) -> Executor:
    whole("workers", workers)
    if threads is not None:
        whole("threads", threads, least=1)
    if kind == "ray":
        from assay.runs.ray_executor import RayExecutor

        return RayExecutor(address=address, workers=workers or None, threads=threads or 1, device=device)
    if address is not None:
        reject("address", "none without --executor ray", address)
    return Local(workers, threads) if workers else Inline(progress)


def _run_small(config: Config, *, quiet: bool) -> int:
    """Run the shrunken study in a temporary folder."""
    with tempfile.TemporaryDirectory() as folder, console_reporter(quiet=quiet, notes=not quiet) as reporter:
        result = run_study(shrink_study(config, reporter.note), folder, reporter=reporter)
    if result.session.signal:
        print_line("dry run: interrupted")
        return 128 + result.session.signal
    for failure in result.session.failures:
        print_note(f"failed: {failure.label}: {failure.error}")
    for name in result.raised:  # diagnostics may lack an answer on so few images
        print_note(f"failed: {name}")
    errors = print_errors(result.session.errors, result.session.first_error)
    wrong = bool(errors or result.session.failures or result.raised)
    without = ", ".join(name for name in result.unanswered if name not in result.raised)
    few = f", but without an answer, for want of images or for the reason above: {without}" if without else ""
    print_line("dry run: " + ("something failed" if wrong else f"everything works{few}"))
    return 1 if wrong else 0


def _list_claims(config: Config) -> int:
    """The paper's figures, and its claims with the threshold from which each holds."""
    if config.paper:
        print_line(config.paper)
    print_table(
        [(figure.id, figure.shows, ", ".join(figure.by) or f"not here: {figure.without}") for figure in config.figures],
        ("figure", "shows", "here by"),
    )
    rows = []
    for claim in config.claims:
        where = ", ".join(part for part in (claim.figure or "", claim.source) if part)
        rows.append((where, claim.says, claim.theirs or "–", threshold_of(claim) or "–"))
    print_table(rows, ("where", "the paper says", "its number", "holds here from"))
    print_line(f"{len(config.figures)} figures and tables, {len(config.claims)} claims")
    return 0


def _show_plan(planned: StudyForecast, *, costs: bool) -> int:
    head = ("data", "model", "attack", "seed", "samples", "done", "state", *(("passes", "time") if costs else ()))
    rows = []
    for cell in planned.cells:
        names = cell.names
        estimates = (format_count(cell.passes), format_time(cell.seconds)) if costs else ()
        row = (names.data, names.model, names.attack, str(names.seed), str(cell.n), str(cell.done), cell.state)
        rows.append((*row, *estimates))
    print_table(rows, head)
    if planned.parts:
        parts = [
            (part.kind, part.name, part.data, part.state, format_count(part.passes), format_time(part.seconds))
            for part in planned.parts
        ]
        print_table(parts, ("part", "of", "data", "state", "passes", "time"))
    for text in planned.notes:
        print_line(text)
    left = [cell for cell in planned.cells if cell.done < cell.n]
    unlimited = sum(cell.passes != cell.passes for cell in left) + sum(p.passes != p.passes for p in planned.parts)
    cost = f", about {format_time(planned.seconds)} in one process on {planned.device}, without checks" if costs else ""
    cost += f" and without {unlimited} parts that have no estimate" if costs and unlimited else ""
    print_line(f"{len(planned.cells)} cells, {len(left)} to be done{cost}")
    return 0


def _print_plan_json(planned: StudyForecast) -> int:
    """The plan as JSON."""
    cells = [
        {
            **{name: getattr(cell.names, name) for name in ("data", "model", "attack", "seed")},
            **{name: getattr(cell, name) for name in ("n", "done", "state")},
            **{name: finite(getattr(cell, name)) for name in ("passes", "seconds")},
        }
        for cell in planned.cells
    ]
    parts = [{**vars(part), "passes": finite(part.passes), "seconds": finite(part.seconds)} for part in planned.parts]
    print_json({"cells": cells, "parts": parts, "device": planned.device, "notes": list(planned.notes)})
    return 0

"""A run's result as JUnit XML, which continuous integration shows as tests."""

from collections.abc import Mapping, Sequence
from typing import Any
from xml.etree import ElementTree as ET

from assay.store.results import Study
from assay.util.text import plain

_LONGEST = 2000


def to_junit(studies: Sequence[Study], summaries: Sequence[Mapping[str, Any]]) -> str:
    """Each model and data set as a suite: the evidence's grade, its errors, and every check as a test case.

    A check fails where it found something (an issue or a warning), and is skipped where it could not be answered. The
    grade's case fails where the evidence is unusable.

    Args:
        studies: of the run, one a data set.
        summaries: of the same studies, as in ``summary.json``.

    Returns:
        The document.
    """
    root = ET.Element("testsuites", name="assay")
    for study, summary in zip(studies, summaries, strict=True):
        for model in summary["models"]:
            _suite(root, study, model)
    ET.indent(root)
    return ET.tostring(root, encoding="unicode", xml_declaration=True) + "\n"


def _suite(root: ET.Element, study: Study, model: Mapping[str, Any]) -> None:
    graded = study.grades.get(model["model"])
    suite = ET.SubElement(root, "testsuite", name=_clean(f"{model['model']} on {study.dataset}"))
    accuracy = model["robust_accuracy"]
    said = "nothing was attacked" if accuracy is None else f"robust accuracy {100 * accuracy:.1f} %, n = {model['n']}"
    case = ET.SubElement(suite, "testcase", classname=_clean(model["model"]), name="evidence")
    ET.SubElement(case, "system-out").text = said
    if graded is not None and graded.grade == "unusable":
        ET.SubElement(case, "failure", message=_clean(f"evidence {graded.grade}: {', '.join(graded.why)}"))
    errors = model["counts"]["error"] + model["counts"]["not run"]
    case = ET.SubElement(suite, "testcase", classname=_clean(model["model"]), name="every sample has a result")
    if errors:
        ET.SubElement(case, "failure", message=f"{errors} samples have no result; run the same command again")
    for answer in () if graded is None else graded.answers:
        name = f"{answer.check} {answer.title}" + (f" ({answer.about})" if answer.about else "")
        case = ET.SubElement(suite, "testcase", classname=_clean(model["model"]), name=_clean(name))
        if answer.level in ("issue", "warning"):
            ET.SubElement(case, "failure", message=_clean(answer.text), type=answer.level)
        elif answer.level != "passed":
            ET.SubElement(case, "skipped", message=_clean(answer.text))
    suite.set("tests", str(len(suite)))
    suite.set("failures", str(sum(case.find("failure") is not None for case in suite)))
    suite.set("skipped", str(sum(case.find("skipped") is not None for case in suite)))


def _clean(text: str) -> str:
    return plain(text, _LONGEST)

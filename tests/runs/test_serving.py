"""Browsing runs: loopback only, nothing but reports, no part of a request is a path."""

import http.client
import threading

import pytest

from assay.cli import main
from assay.report.index import Entry, render_index
from assay.runs.ledger import Ledger
from assay.runs.serving import found, serve
from report.hostile import PAYLOADS


@pytest.fixture
def served(tmp_path):
    root = tmp_path / "runs"
    for name in ("one", "deep/er/two"):
        folder = root / name
        folder.mkdir(parents=True)
        (folder / "report.html").write_text(f"<p>report of {name}</p>")
    (root / "one" / "secret.txt").write_text("secret")
    with Ledger(root / "one", write=True) as ledger:
        ledger.keep(told={"title": "<b>One</b>", "command": "assay run"})
    (tmp_path / "outside.html").write_text("outside")
    link = root / "linked"
    link.mkdir()
    (link / "report.html").symlink_to(tmp_path / "outside.html")
    with serve(root, 0) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        yield server.server_port, root
        server.shutdown()
        thread.join()


def ask(port, path, host="127.0.0.1", method="GET"):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.putrequest(method, path, skip_host=True)
    connection.putheader("Host", host)
    connection.endheaders()
    answer = connection.getresponse()
    body = answer.read().decode()
    connection.close()
    return answer, body


def test_runs_are_listed_and_their_reports_shown(served):
    port, root = served
    answer, body = ask(port, "/")
    assert answer.status == 200
    assert "2 runs" in body
    assert "&lt;b&gt;One&lt;/b&gt;" in body
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert [run.name for run in found(root)] == ["deep/er/two", "one"]
    assert ask(port, "/0/report")[1] == "<p>report of deep/er/two</p>"
    assert ask(port, "/1/report")[1] == "<p>report of one</p>"


@pytest.mark.parametrize("path", [
    "/../outside.html", "/1/../../outside.html", "/1/secret.txt", "/one/secret.txt", "/1/ledger.sqlite", "/2/report",
    "/-1/report", "/1/report/..", "/1//etc/passwd", "/%2e%2e/outside.html", "/999999999999999999999/report",
    "/1/diagnosis",
])  # fmt: skip
def test_nothing_else_is_served(served, path):
    answer, body = ask(served[0], path)
    assert answer.status == 404
    assert body == "no such page"


def test_pages_stand_in_an_origin_of_their_own(served):
    port, _ = served
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request("GET", "/0/report")
    answer = connection.getresponse()
    assert answer.status == 200
    assert answer.getheader("Content-Security-Policy").startswith("sandbox allow-scripts; default-src 'none'")
    connection.close()


def test_a_damaged_ledger_is_told_and_the_others_are_shown(served):
    port, root = served
    (root / "broken").mkdir()
    (root / "broken" / "ledger.sqlite").write_text("no ledger " * 500)
    _, body = ask(port, "/")
    assert "3 runs" in body
    assert "ledger unreadable: ValueError: run: expected a ledger written by assay" in body
    assert "report of one" in ask(port, "/2/report")[1]


def test_other_hosts_and_methods_are_refused(served):
    assert ask(served[0], "/", host="evil.example")[0].status == 403
    assert ask(served[0], "/", host="localhost:1234")[0].status == 200
    assert ask(served[0], "/", method="POST")[0].status == 501


@pytest.mark.parametrize("payload", PAYLOADS[:8])
def test_names_are_text(payload):
    page = render_index([Entry(payload, payload, payload, (payload,), 1, 2, 0.5, ((payload, "/0/report"),))])
    plain = render_index([Entry("x", "x", "x", ("x",), 1, 2, 0.5, (("x", "/0/report"),))])
    assert page.count("<") == plain.count("<")


def test_a_folder_that_is_not_there(tmp_path, capsys):
    assert main(["serve", str(tmp_path / "none")]) == 2
    assert "runs: expected a folder" in capsys.readouterr().err

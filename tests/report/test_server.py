"""Browsing runs: loopback only, nothing but reports, no part of a request is a path."""

import http.client
import re
import socket
import subprocess
import sys
import threading
import time
import tracemalloc
import urllib.request

import pytest

from assay.cli import main
from assay.report.run_index import RunRow, render_index
from assay.report.server import serve
from assay.store import catalogue
from assay.store.catalogue import list_runs
from assay.store.columns import CellNames
from assay.store.ledger import Ledger
from report.hostile import PAYLOADS
from runs.builders import columns, part


@pytest.fixture
def served(tmp_path):
    root = tmp_path / "runs"
    for name in ("one", "deep/er/two"):
        folder = root / name
        folder.mkdir(parents=True)
        (folder / "report.html").write_text(f"<p>report of {name}</p>")
    (root / "one" / "secret.txt").write_text("secret")
    with Ledger(root / "one", write=True) as ledger:
        ledger.set_meta(told={"title": "<b>One</b>", "command": "assay run"})
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
    assert [run.name for run in list_runs(root)] == ["deep/er/two", "one"]
    two, one = list_runs(root)
    assert ask(port, f"/{two.key}/report")[1] == "<p>report of deep/er/two</p>"
    assert ask(port, f"/{one.key}/report")[1] == "<p>report of one</p>"
    assert f"/{one.key}/report" in body


@pytest.mark.parametrize(
    "path",
    [
        "/../outside.html",
        "/{one}/../../outside.html",
        "/{one}/secret.txt",
        "/one/secret.txt",
        "/{one}/ledger.sqlite",
        "/2/report",
        "/1/report",
        "/-1/report",
        "/{one}/report/..",
        "/{one}//etc/passwd",
        "/%2e%2e/outside.html",
        "/999999999999999999999/report",
        "/{one}/diagnosis",
    ],
)
def test_nothing_else_is_served(served, path):
    answer, body = ask(served[0], path.replace("{one}", list_runs(served[1])[1].key))
    assert answer.status == 404
    assert body == "no such page"


def test_pages_stand_in_an_origin_of_their_own(served):
    port, root = served
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request("GET", f"/{list_runs(root)[0].key}/report")
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
    assert "report of one" in ask(port, f"/{list_runs(root)[2].key}/report")[1]


def test_other_hosts_and_methods_are_refused(served):
    assert ask(served[0], "/", host="evil.example")[0].status == 403
    assert ask(served[0], "/", host="localhost:1234")[0].status == 200
    assert ask(served[0], "/", method="POST")[0].status == 501


@pytest.mark.parametrize("payload", PAYLOADS[:8])
def test_names_are_text(payload):
    page = render_index([RunRow(payload, payload, payload, (payload,), 1, 2, 0.5, ((payload, "/0/report"),))])
    plain = render_index([RunRow("x", "x", "x", ("x",), 1, 2, 0.5, (("x", "/0/report"),))])
    assert page.count("<") == plain.count("<")


def test_a_folder_that_is_not_there(tmp_path, capsys):
    assert main(["serve", str(tmp_path / "none")]) == 2
    assert "runs: expected a folder" in capsys.readouterr().err


LONG = {"digits": f"/{'9' * 5000}/report", "many": "/" + "a" * 60000, "odd": "/" + "%00" * 300, "deep": "/1" * 900}


@pytest.mark.parametrize("path", LONG.values(), ids=LONG)
def test_long_addresses_are_refused_without_a_traceback(served, path, capfd):
    port, _ = served
    answer, _ = ask(port, path)
    assert answer.status in (404, 414)
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(b"GET /" + b"1" * 70000)
        connection.shutdown(socket.SHUT_WR)
        assert b"414" in connection.recv(4096)
    assert ask(port, "/")[0].status == 200
    assert "Traceback" not in capfd.readouterr().err


def test_a_large_page_is_sent_in_parts(served, monkeypatch):
    port, root = served
    size = 300 * 2**20
    with (root / "one" / "report.html").open("wb") as file:
        file.truncate(size)
    tracemalloc.start()
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request("GET", f"/{list_runs(root)[1].key}/report")
    answer, seen = connection.getresponse(), 0
    while part := answer.read(2**20):
        seen += len(part)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    connection.close()
    assert seen == size
    assert most < 20 * 2**20


def test_a_ledger_is_read_once_until_it_changes(served, monkeypatch):
    """Also where many ask at once, and while the run goes on."""
    port, root = served
    read, real = [], catalogue.read_status

    def slow(folder):
        read.append(folder)
        time.sleep(0.3)
        return real(folder)

    monkeypatch.setattr(catalogue, "read_status", slow)
    monkeypatch.setattr(catalogue, "_FRESH", 0.0)
    answers = []
    clients = [threading.Thread(target=lambda: answers.append(ask(port, "/")[0].status)) for _ in range(50)]
    for client in clients:
        client.start()
    for client in clients:
        client.join()
    assert answers == [200] * 50
    assert len(read) == 1
    with Ledger(root / "one", write=True) as ledger:
        ledger.set_meta(told={"title": "Two", "command": ""})
    assert "Two" not in ask(port, "/")[1]
    monkeypatch.setattr(catalogue.time, "monotonic", lambda: 1e9)
    assert "Two" in ask(port, "/")[1]
    assert len(read) == 2


def test_a_thousand_cells_are_read_in_a_moment(tmp_path):
    with Ledger(tmp_path / "run", write=True) as ledger:
        words = CellNames("m", "d", "PGD", "PGD", "linf 8/255")
        cells = [ledger.add_cell(f"{i:024d}", "d", 16, {}, "PGD", ("PGD",)) for i in range(1000)]
        ledger.set_plan((cell, words) for cell in cells)
        for cell in cells[:300]:
            ledger.add_shard(cell, part(0, 16), columns(16))
    runs = catalogue.Catalogue(tmp_path)
    (first,) = runs.runs()
    assert len(first.status.cells) == 1000
    runs._until = 0.0
    began = time.perf_counter()
    runs.runs()
    assert time.perf_counter() - began < 0.5


@pytest.mark.parametrize("port", ["99999", "-1"])
def test_a_port_that_there_is_not(tmp_path, port, capsys):
    assert main(["serve", str(tmp_path), "--port", port]) == 2
    assert "port: expected" in capsys.readouterr().err


def test_one_request_is_answered_before_the_end(tmp_path):
    words = [sys.executable, "-m", "assay.cli", "serve", str(tmp_path), "--port", "0", "--once"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
        address = re.search(r"http://\S+", process.stdout.readline())[0]
        with urllib.request.urlopen(address, timeout=30) as answer:
            assert answer.status == 200
            assert b"<html" in answer.read()
        assert process.wait(timeout=30) == 0

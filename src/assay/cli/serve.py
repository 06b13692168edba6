"""``assay serve``: browse runs on this machine."""

import errno
from http.server import ThreadingHTTPServer
from pathlib import Path

from assay.cli.output import print_line
from assay.report.server import serve as serve_runs
from assay.util.console import print_note
from assay.util.validate import described, reject, whole

_LAST_PORT = 65535


def serve(runs: Path = Path("runs"), /, *, port: int = 8600, once: bool = False) -> int:
    """Browse the reports of many runs on this machine.

    Parameters
    ----------
    runs
        A folder with runs in it, at any depth.
    port
        Port on the loopback address; 0 picks a free one.
    once
        Answer one request and exit.
    """
    if not runs.is_dir():
        raise FileNotFoundError(f"runs: expected a folder, but there is none at {runs}")
    if whole("port", port) > _LAST_PORT:
        reject("port", f"a port from 0 to {_LAST_PORT}", port)
    with _listen(runs, port) as server:
        print_line(f"runs: http://127.0.0.1:{server.server_port}/  (Ctrl-C ends)")
        if once:
            server.daemon_threads = False  # the end waits for the answer
            server.handle_request()
            return 0
        try:
            server.serve_forever(poll_interval=0.2)
        except KeyboardInterrupt:
            print_note("ended")
    return 0


def _listen(runs: Path, port: int) -> ThreadingHTTPServer:
    """A server on the port.

    Raises:
        ValueError: another program listens on the port, or this user may not use it.
    """
    reasons = {
        errno.EADDRINUSE: "on which another program listens",
        errno.EACCES: "which needs the rights of an administrator",
    }
    try:
        return serve_runs(runs, port)
    except OSError as error:
        if error.errno not in reasons:
            raise
        free = "a free port (--port 0 finds one)"
        return reject("port", free, described(f"{port}, {reasons[error.errno]}"))

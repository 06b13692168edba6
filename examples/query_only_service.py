"""Attack a classifier behind an HTTP address: images go out, scores come back, every query counts."""

import io
import threading
import urllib.request
from http.server import BaseHTTPRequestHandler, HTTPServer

import numpy as np
import torch

import assay
from assay.data import load
from assay.models import QueryModel, build

# %% A service that answers with scores. Yours is elsewhere; it only has to take images and return numbers.
data = load("scenes:size=16,count=64", limit=16)
network = build("tiny-cnn", channels=3, classes=8, size=16).eval()


class Service(BaseHTTPRequestHandler):
    """Takes an array of images as .npy, answers with an array of scores."""

    def do_POST(self) -> None:
        images = np.load(io.BytesIO(self.rfile.read(int(self.headers["Content-Length"]))))
        with torch.no_grad():
            scores = network(torch.from_numpy(images)).numpy()
        answer = io.BytesIO()
        np.save(answer, scores)
        self.send_response(200)
        self.end_headers()
        self.wfile.write(answer.getvalue())

    def log_message(self, *_: object) -> None:
        """Quiet."""


server = HTTPServer(("127.0.0.1", 0), Service)
threading.Thread(target=server.serve_forever, daemon=True).start()
address = f"http://127.0.0.1:{server.server_port}/"


# %% The model, as assay sees it: a function from NumPy images to scores.
def ask(images: np.ndarray) -> np.ndarray:
    body = io.BytesIO()
    np.save(body, images)
    with urllib.request.urlopen(urllib.request.Request(address, data=body.getvalue()), timeout=60) as reply:
        return np.load(io.BytesIO(reply.read()))


model = QueryModel(ask)
x = data.images()
y = model(x).argmax(1)

# %% The attack makes at most 100 queries a sample; the referee makes one before it and one about what it found.
outcome = assay.attack(model, x, y, assay.Square(16 / 255, queries=1000), max_forwards=100)
print(outcome)
print("most queries for a sample:", int(outcome.forwards.max()), "all in all:", model.queries)
server.shutdown()
server.server_close()

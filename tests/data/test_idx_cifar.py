"""idx files and CIFAR batches, which are hostile until parsed."""

import gzip
import pickle
import struct

import numpy as np
import pytest
import torch

from assay.data import load

RNG = np.random.default_rng(2)
X = RNG.integers(0, 256, (12, 7, 5), np.uint8)
Y = (np.arange(12) % 3).astype(np.uint8)


def idx(array, magic=None):
    head = magic if magic is not None else bytes([0, 0, 8, array.ndim])
    return head + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


def put(root, packed=False, **content):
    names = {
        "x": "train-images-idx3-ubyte",
        "y": "train-labels-idx1-ubyte",
        "u": "t10k-images-idx3-ubyte",
        "v": "t10k-labels-idx1-ubyte",
    }
    for key, data in content.items():
        path = root / (names[key] + (".gz" if packed else ""))
        path.write_bytes(gzip.compress(data) if packed else data)


@pytest.mark.parametrize("packed", [True, False])
def test_idx_round_trip(tmp_path, packed):
    put(tmp_path, packed, x=idx(X[:8]), y=idx(Y[:8]), u=idx(X[8:]), v=idx(Y[8:] % 2))
    train, test = load(f"idx:{tmp_path}", split="train"), load(f"idx:{tmp_path}", split="test")
    assert torch.equal(train.x[:, 0], torch.from_numpy(X[:8].copy()))
    assert torch.equal(test.x[:, 0], torch.from_numpy(X[8:].copy()))
    assert train.y.tolist() == Y[:8].tolist()
    assert train.classes == test.classes == ("0", "1", "2")
    assert load(f"idx:{tmp_path}?classes=a,b,c").classes == ("a", "b", "c")
    (tmp_path / "classes.txt").write_text("bag\nboot\ncoat\n")
    assert load(f"idx:{tmp_path}").classes == ("bag", "boot", "coat")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"u": idx(X)[:-3]}, r"expected 420 bytes of data for the shape \(12, 7, 5\), got 417 bytes"),
        ({"u": idx(X) + b"\0"}, "expected 420 bytes of data .*got more bytes"),
        ({"u": idx(X, b"\0\0\x08\x01")}, r"expected the magic number .*with 3 axes \(00 00 08 03\), got 00 00 08 01"),
        ({"u": idx(X, b"\1\0\x08\x03")}, "expected the magic number of an idx file"),
        ({"u": idx(X, b"\0\0\x0d\x03")}, "expected the magic number of an idx file"),
        ({"u": b""}, "expected the magic number .*got an empty file"),
        ({"u": idx(X)[:9]}, "expected 12 bytes of extents, got 5 bytes"),
        (
            {"u": b"\0\0\x08\x03" + struct.pack(">3I", 2**31, 2**10, 2**10)},
            r"expected at most 8 GiB \(option max_gib\)",
        ),
        ({"v": idx(Y[:-1])}, "y: expected one label for each of the 12 images"),
        ({"v": idx(X)}, "expected the magic number .*with 1 axes"),
    ],
)
@pytest.mark.parametrize("packed", [True, False])
def test_bad_idx(tmp_path, content, message, packed):
    put(tmp_path, packed, **({"u": idx(X), "v": idx(Y)} | content))
    with pytest.raises(ValueError, match=message):
        load(f"idx:{tmp_path}", split="test")


def test_bad_idx_folders(tmp_path):
    with pytest.raises(ValueError, match="idx path: expected a folder"):
        load(f"idx:{tmp_path}/none")
    put(tmp_path, u=idx(X))
    with pytest.raises(ValueError, match=r"expected a file t10k-labels-idx…-ubyte\[.gz\], got t10k-images"):
        load(f"idx:{tmp_path}")
    with pytest.raises(ValueError, match="split: expected 'train' or 'test' for idx files"):
        load(f"idx:{tmp_path}", split="all")
    put(tmp_path, packed=True, v=idx(Y))
    path = tmp_path / "t10k-labels-idx1-ubyte.gz"
    path.write_bytes(path.read_bytes()[:-12])
    with pytest.raises(ValueError, match="expected a complete file, got EOFError"):
        load(f"idx:{tmp_path}")
    path.write_bytes(b"not gzip")
    with pytest.raises(ValueError, match="expected a complete file, got BadGzipFile"):
        load(f"idx:{tmp_path}")


C = RNG.integers(0, 256, (30, 3, 32, 32), np.uint8)
L = [k % 10 for k in range(30)]
NAMES = [f"n{k}" for k in range(10)]


def python2_batch(x, labels):
    """A pickle as Python 2 wrote them: byte strings, protocol 2, numpy's old module."""
    raw = x.reshape(len(x), -1).tobytes()

    def text(value):
        return b"U" + bytes([len(value)]) + value

    def number(value):
        return b"J" + struct.pack("<i", value)

    array = (
        b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(K\x00t" + text(b"b") + b"tR"
        b"(K\x01(" + number(len(x)) + number(3072) + b"tcnumpy\ndtype\n(" + text(b"u1") + b"K\x00K\x01tR"
        b"(K\x03" + text(b"|") + b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
        b"\x89" + b"T" + struct.pack("<i", len(raw)) + raw + b"tb"
    )
    listed = b"](" + b"".join(number(v) for v in labels) + b"e"
    return b"\x80\x02}(" + text(b"data") + array + text(b"labels") + listed + b"u."


def cifar10(root, protocol=2, batch=None):
    root.mkdir(exist_ok=True)
    for k in range(6):
        part = slice(5 * k, 5 * k + 5)
        name = f"data_batch_{k + 1}" if k < 5 else "test_batch"
        content = {"data": C[part].reshape(5, -1), "labels": L[part], "batch_label": "x", "filenames": ["f"] * 5}
        written = pickle.dumps(content, protocol=protocol)
        (root / name).write_bytes(written if batch is None else batch(C[part], L[part]))
    (root / "batches.meta").write_bytes(pickle.dumps({"label_names": NAMES, "num_vis": 3072}, protocol=2))


@pytest.mark.parametrize("protocol", [2, 3, 4])
def test_cifar10_python(tmp_path, protocol):
    cifar10(tmp_path / "cifar-10-batches-py", protocol)
    for root in (tmp_path, tmp_path / "cifar-10-batches-py"):
        train, test = load(f"cifar:{root}", split="train"), load(f"cifar:{root}", split="test")
        assert torch.equal(train.x, torch.from_numpy(C[:25].copy()))
        assert torch.equal(test.x, torch.from_numpy(C[25:].copy()))
        assert test.y.tolist() == L[25:]
        assert test.classes == tuple(NAMES)
        assert test.name == "cifar10/test"


def test_cifar10_as_python2_wrote_it(tmp_path):
    content = python2_batch(C[:5], L[:5])
    old = pickle.loads(content, encoding="bytes")
    assert np.array_equal(old[b"data"], C[:5].reshape(5, -1))
    cifar10(tmp_path, batch=python2_batch)
    assert torch.equal(load(f"cifar:{tmp_path}", split="train").x, torch.from_numpy(C[:25].copy()))


def test_cifar10_binary(tmp_path):
    for k in range(6):
        part = slice(5 * k, 5 * k + 5)
        rows = np.concatenate([np.array(L[part], np.uint8)[:, None], C[part].reshape(5, -1)], 1)
        (tmp_path / (f"data_batch_{k + 1}.bin" if k < 5 else "test_batch.bin")).write_bytes(rows.tobytes())
    (tmp_path / "batches.meta.txt").write_text("\n".join(NAMES) + "\n\n")
    train = load(f"cifar:{tmp_path}", split="train")
    assert torch.equal(train.x, torch.from_numpy(C[:25].copy()))
    assert train.y.tolist() == L[:25]
    assert train.classes == tuple(NAMES)
    path = tmp_path / "test_batch.bin"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ValueError, match="expected records of 3073 bytes, got 15364 bytes"):
        load(f"cifar:{tmp_path}")


@pytest.mark.parametrize("binary", [True, False])
def test_cifar100(tmp_path, binary):
    fine, coarse = [k % 7 for k in range(30)], [k % 2 for k in range(30)]
    for name, part in (("train", slice(0, 20)), ("test", slice(20, 30))):
        if binary:
            marks = np.array([coarse[part], fine[part]], np.uint8).T
            rows = np.concatenate([marks, C[part].reshape(len(marks), -1)], 1)
            (tmp_path / f"{name}.bin").write_bytes(rows.tobytes())
        else:
            content = {"data": C[part].reshape(-1, 3072), "fine_labels": fine[part], "coarse_labels": coarse[part]}
            (tmp_path / name).write_bytes(pickle.dumps(content, protocol=2))
    names = {"fine_label_names": list("abcdefg"), "coarse_label_names": ["x", "y"]}
    (tmp_path / "meta").write_bytes(pickle.dumps(names, protocol=2))
    for key, value in names.items():
        (tmp_path / f"{key}.txt").write_text("\n".join(value))
    test = load(f"cifar:{tmp_path}", split="test")
    assert torch.equal(test.x, torch.from_numpy(C[20:].copy()))
    assert test.y.tolist() == fine[20:]
    assert test.classes == tuple("abcdefg")
    broad = load(f"cifar:{tmp_path}?labels=coarse", split="test")
    assert broad.y.tolist() == coarse[20:]
    assert broad.classes == ("x", "y")


class Evil:
    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize(
    ("function", "name"),
    [(exec, "builtins.exec"), (eval, "builtins.eval"), (getattr, "builtins.getattr"), (np.load, "numpy.load")],
)
def test_malicious_batch_runs_nothing(tmp_path, function, name):
    cifar10(tmp_path)
    mark = tmp_path / "mark"
    evil = Evil(function, f"open({str(mark)!r}, 'w')", "x")
    (tmp_path / "test_batch").write_bytes(pickle.dumps({"data": evil, "labels": [0]}, protocol=2))
    asked = "__builtin__." + name.split(".")[1] if name.startswith("builtins") else name
    with pytest.raises(ValueError, match=rf"UnpicklingError: the pickle asks for ({name}|{asked}|numpy\S*load)"):
        load(f"cifar:{tmp_path}")
    assert not mark.exists()


def test_malicious_shell_command_runs_nothing(tmp_path):
    cifar10(tmp_path)
    (tmp_path / "test_batch").write_bytes(b"cos\nsystem\n(S'touch " + str(tmp_path / "mark").encode() + b"'\ntR.")
    with pytest.raises(ValueError, match=r"the pickle asks for os.system, which no CIFAR batch needs"):
        load(f"cifar:{tmp_path}")
    assert not (tmp_path / "mark").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([1, 2], "expected a pickled dictionary, got list"),
        ({"labels": [0]}, "expected an array 'data', got NoneType"),
        ({"data": np.zeros((2, 3072), np.uint8), "labels": [0]}, "expected a list 'labels' of 2 whole numbers"),
        ({"data": np.zeros((1, 3072), np.uint8), "labels": ["cat"]}, "expected a list 'labels' of 1 whole numbers"),
        ({"data": np.zeros((1, 3072), np.uint8), "labels": [10]}, "y: expected labels from 0 to 9"),
        ({"data": np.zeros((1, 3072), np.float32), "labels": [0]}, "expected a C-contiguous uint8 array"),
        ({"data": np.zeros((1, 30), np.uint8), "labels": [0]}, r"expected uint8 data \(n, 3072\)"),
        ({"data": np.zeros((2, 3072), np.uint8, order="F"), "labels": [0]}, "expected a C-contiguous uint8 array"),
    ],
)
def test_bad_batches(tmp_path, content, message):
    cifar10(tmp_path)
    (tmp_path / "test_batch").write_bytes(pickle.dumps(content, protocol=2))
    with pytest.raises(ValueError, match=message):
        load(f"cifar:{tmp_path}")


def test_bad_cifar_folders(tmp_path):
    with pytest.raises(ValueError, match="cifar path: expected a folder with data_batch_1"):
        load(f"cifar:{tmp_path}")
    cifar10(tmp_path)
    (tmp_path / "data_batch_3").unlink()
    with pytest.raises(ValueError, match="cifar: expected a file 'data_batch_3'"):
        load(f"cifar:{tmp_path}", split="train")
    with pytest.raises(ValueError, match="option labels: expected no such option for CIFAR-10"):
        load(f"cifar:{tmp_path}?labels=coarse")
    with pytest.raises(ValueError, match="split: expected 'train' or 'test' for CIFAR"):
        load(f"cifar:{tmp_path}", split="val")
    path = tmp_path / "test_batch"
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(ValueError, match="expected a pickle of numbers, text, lists and arrays"):
        load(f"cifar:{tmp_path}")

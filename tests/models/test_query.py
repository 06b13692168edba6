"""Functions that can only be asked: what they get, and what may come back."""

import numpy as np
import pytest
import torch

import assay
from assay.models import QueryModel


@pytest.mark.parametrize("layout", ["nchw", "nhwc"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_function_may_change_its_array(layout, dtype):
    def ask(a):
        a -= 0.5
        return a.reshape(len(a), -1)[:, :3]

    x = torch.rand(4, 3, 1, 2, dtype=dtype)
    before = x.clone()
    model = QueryModel(ask, layout=layout)
    first = model(x)
    assert torch.equal(x, before)
    assert torch.equal(model(x), first)


def test_a_function_that_changes_its_array_is_attacked_like_one_that_does_not():
    weight = np.random.default_rng(0).normal(size=(12, 3))

    def plain(a):
        return (a.reshape(len(a), -1) - 0.5) @ weight

    def in_place(a):
        a -= 0.5
        return a.reshape(len(a), -1) @ weight

    x = torch.rand(8, 3, 2, 2)
    y = torch.from_numpy(plain(x.numpy())).argmax(1)
    one, other = (
        assay.attack(QueryModel(ask), x.clone(), y, assay.Square(0.1, queries=100), preflight=False)
        for ask in (plain, in_place)
    )
    assert torch.equal(one.status, other.status)
    assert one.robust_accuracy < 1


def test_the_answer_is_copied():
    buffer = np.zeros((2, 3), np.float32)

    def ask(a):
        buffer[:] = a.reshape(2, -1)[:, :3]
        return buffer

    model = QueryModel(ask)
    first = model(torch.ones(2, 3, 1, 1))
    model(torch.zeros(2, 3, 1, 1))
    assert torch.equal(first, torch.ones(2, 3))


ANSWERS = {
    "a list": lambda a: [[0.0, 1.0]] * len(a),
    "a tensor": lambda a: torch.zeros(len(a), 2, requires_grad=True),
    "half precision": lambda a: torch.zeros(len(a), 2, dtype=torch.bfloat16),
    "whole numbers": lambda a: np.zeros((len(a), 2), np.int8),
    "a tuple of rows": lambda a: tuple(np.zeros(2) for _ in a),
}


@pytest.mark.parametrize("case", ANSWERS)
def test_forms_of_an_answer(case):
    assert QueryModel(ANSWERS[case])(torch.rand(3, 1, 2, 2)).shape == (3, 2)


def test_one_image_may_have_a_bare_answer():
    x = torch.rand(1, 1, 2, 2)
    assert QueryModel(lambda a: np.array([0.0, 1.0]))(x).tolist() == [[0.0, 1.0]]
    assert QueryModel(lambda a: np.int64(1), gives="labels", classes=2)(x).tolist() == [[0.0, 1.0]]
    assert QueryModel(lambda a: [True], gives="labels", classes=2)(x).tolist() == [[0.0, 1.0]]


SCORES = {
    "nothing": lambda a: None,
    "a word": lambda a: "cat",
    "words": lambda a: ["cat"] * len(a),
    "objects": lambda a: np.array([[object(), object()]] * len(a)),
    "ragged rows": lambda a: [[1.0, 2.0], [1.0], [3.0]],
    "complex numbers": lambda a: np.zeros((len(a), 2), complex),
    "bytes": lambda a: np.zeros((len(a), 2), "S1"),
    "dates": lambda a: np.zeros((len(a), 2), "datetime64[s]"),
    "a mapping": lambda a: {"logits": np.zeros((len(a), 2))},
    "one number": lambda a: 0.5,
    "one score": lambda a: np.zeros((len(a), 1)),
    "labels": lambda a: np.zeros(len(a), int),
    "a row less": lambda a: np.zeros((len(a) - 1, 2)),
    "a row more": lambda a: np.zeros((len(a) + 1, 2)),
    "transposed": lambda a: np.zeros((2, len(a))),
    "three axes": lambda a: np.zeros((len(a), 2, 1)),
    "no rows": lambda a: np.zeros((0, 2)),
}
LABELS = {
    "above the last": lambda a: np.full(len(a), 2),
    "far above": lambda a: np.full(len(a), 2**63 - 1),
    "wrapped": lambda a: np.full(len(a), 2**64 - 1, np.uint64),
    "negative": lambda a: np.full(len(a), -1),
    "floats": lambda a: np.zeros(len(a)),
    "NaN": lambda a: np.full(len(a), np.nan),
    "names": lambda a: np.array(["cat"] * len(a)),
    "one-hot": lambda a: np.eye(2)[np.zeros(len(a), int)],
    "one for all": lambda a: 1,
    "one less": lambda a: np.zeros(len(a) - 1, int),
    "nothing": lambda a: [],
    "none of some": lambda a: [0, None, 1],
}
PROBABILITIES = {
    "logits": lambda a: np.full((len(a), 2), 3.0),
    "negative": lambda a: np.full((len(a), 2), -0.1),
    "per cent": lambda a: np.full((len(a), 2), 50),
}
GIVES = {"logits": SCORES, "labels": LABELS, "probabilities": PROBABILITIES}


@pytest.mark.parametrize(("gives", "case"), [(gives, case) for gives, cases in GIVES.items() for case in cases])
def test_wrong_answers_are_one_sentence(gives, case):
    model = QueryModel(GIVES[gives][case], gives=gives, classes=2 if gives == "labels" else None)
    with pytest.raises((ValueError, TypeError), match=r"^ask: expected [^\n]*, got [^\n]*$"):
        model(torch.rand(3, 1, 2, 2))


def test_a_number_of_classes_holds_for_scores_too():
    with pytest.raises(ValueError, match="ask: expected scores of 3 classes"):
        QueryModel(lambda a: np.zeros((len(a), 2)), classes=3)(torch.rand(1, 1, 2, 2))


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        ({"ask": 3}, "ask"),
        ({"gives": "score"}, "gives"),
        ({"layout": "chw"}, "layout"),
        ({"gives": "labels"}, "classes"),
        ({"gives": "labels", "classes": 1}, "classes"),
        ({"gives": "labels", "classes": 10**9}, "classes"),
        ({"most": -1}, "most"),
        ({"most": 2.5}, "most"),
    ],
)
def test_wrong_arguments_are_one_sentence(arguments, name):
    with pytest.raises((ValueError, TypeError), match=rf"^{name}: expected [^\n]*, got [^\n]*$"):
        QueryModel(**({"ask": lambda a: a} | arguments))


def onnx_file(path, batch, channels=3):
    """A linear classifier as an ONNX file with a batch of its own."""
    helper = pytest.importorskip("onnx.helper", reason="onnx is not installed")
    pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    import onnx

    weight = (np.arange(12 * 3, dtype=np.float32).reshape(12, 3) % 7) / 10
    nodes = [helper.make_node("Flatten", ["x"], ["f"]), helper.make_node("MatMul", ["f", "w"], ["z"])]
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "g",
        [value("x", onnx.TensorProto.FLOAT, [batch, channels, 2, 2])],
        [value("z", onnx.TensorProto.FLOAT, [batch, 3])],
        [onnx.numpy_helper.from_array(weight, "w")],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return torch.from_numpy(weight)


@pytest.mark.parametrize("batch", ["n", 1, 4])
def test_an_onnx_model_with_a_fixed_batch_takes_any_number(tmp_path, batch):
    weight = onnx_file(tmp_path / "m.onnx", batch)
    from assay.models import from_onnx

    model, x = from_onnx(tmp_path / "m.onnx"), torch.rand(5, 3, 2, 2)
    torch.testing.assert_close(model(x), x.flatten(1) @ weight)
    assert model.queries == 5
    with pytest.raises(ValueError, match=r"x: expected images of shape \(3, 2, 2\), the ONNX model's input"):
        model(torch.rand(1, 1, 2, 2))


class Session:
    """A stand-in with the interface of ONNX Runtime's sessions."""

    def __init__(self, *shapes, kind="tensor(float)"):
        self.shapes, self.kind, self.sizes = shapes, kind, []

    def get_inputs(self):
        from types import SimpleNamespace

        return [SimpleNamespace(name=f"x{i}", type=self.kind, shape=list(s)) for i, s in enumerate(self.shapes)]

    def run(self, _, feed):
        (images,) = feed.values()
        self.sizes.append(len(images))
        return [images.reshape(len(images), -1)[:, :2] * 2]


@pytest.mark.parametrize("count", [0, 1, 4, 6])
def test_a_session_with_a_fixed_batch_is_asked_in_groups(count):
    from assay.models.onnx import create_runner

    session, x = Session((4, 3, 2, 2)), np.random.default_rng(0).random((count, 3, 2, 2), np.float32)
    np.testing.assert_array_equal(create_runner(session)(x), x.reshape(count, 12)[:, :2] * 2)
    assert set(session.sizes) == {4}


@pytest.mark.parametrize(
    "session",
    [Session(), Session((1, 3, 2, 2), (1, 2)), Session((1, 12)), Session((1, 3, 2, 2), kind="tensor(int64)")],
)
def test_a_session_that_takes_no_images_is_refused(session):
    from assay.models.onnx import create_runner

    with pytest.raises(ValueError, match="path: expected an ONNX model with one input of four axes"):
        create_runner(session)

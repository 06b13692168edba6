"""Attacks by queries: gradients estimated right, progress by labels, budgets, models that can only be asked."""

import numpy as np
import pytest
import torch

import assay
from assay.attacks.blackbox.boundary_search import answer, ask, begin, finished
from assay.attacks.blackbox.square import _profile
from assay.core.oracle import Oracle
from assay.core.rng import Rng
from assay.core.rows import Rows, untargeted
from assay.models import QueryModel
from assay.parts.gradient_estimation import EstimatingOracle
from assay.parts.losses import Margin
from models_for_tests import Linear, images, mlp, predicted

LABELS_ONLY = [
    assay.Boundary(300),
    assay.HopSkipJump(8, samples=50),
    assay.HopSkipJump(8, "linf", samples=50),
    assay.SignOPT(steps=10, samples=40, starts=10),
    assay.OPT(steps=4, samples=8, starts=10),
]
SCORES = [
    assay.NES(0.05, queries=500),
    assay.SimBA(queries=300),
    assay.ZOO(100, coordinates=10),
    assay.ZOO(100, coordinates=10, method="newton"),
    assay.Square(0.05, queries=200),
    assay.LocalSearch(10, pixels=20),
    assay.OnePixel(3, population=40, generations=10),
]


def named(attacks):
    return {"argvalues": attacks, "ids": [a.describe() for a in attacks]}


def asked(model, gives):
    """The model behind a function of NumPy arrays."""

    def ask(x):
        assert isinstance(x, np.ndarray)
        assert x.dtype == np.float32
        with torch.no_grad():
            z = model(torch.from_numpy(x))
        return (z.argmax(1) if gives == "labels" else z.softmax(1) if gives == "probabilities" else z).numpy()

    return QueryModel(ask, gives=gives, classes=4 if gives == "labels" else None)


@pytest.mark.parametrize("attack", **named(LABELS_ONLY))
def test_labels_are_enough_to_come_near(attack):
    """Within a factor of the distance that a white-box attack finds, and every query counted."""
    model, x = mlp(), images(16)
    y = predicted(model, x)
    box = asked(model, "labels")
    outcome = assay.attack(box, x, y, attack, preflight=False)
    norm = "linf" if "linf" in attack.describe() else "l2"
    nearest = assay.attack(model, x, y, assay.FMN(100, norm), preflight=False).distance(norm)
    assert outcome.success_rate == 1.0
    ratio = (outcome.distance(norm) / nearest.clamp_min(0.02)).median()
    assert ratio < (12 if "Boundary" in attack.describe() else 2.5)
    assert box.queries == int(outcome.forwards.sum() + outcome.checks.sum())


@pytest.mark.parametrize("attack", **named(SCORES))
@pytest.mark.parametrize("gives", ["logits", "probabilities"])
def test_scores_are_enough(attack, gives):
    model, x = mlp(), images(16)
    y = predicted(model, x)
    outcome = assay.attack(asked(model, gives), x, y, attack, preflight=False)
    assert outcome.success_rate >= 0.5


@pytest.mark.parametrize("attack", **named([*LABELS_ONLY, *SCORES]))
@pytest.mark.parametrize("budget", [1, 3, 40, 101])
def test_a_query_budget_is_never_exceeded(attack, budget):
    model, x = mlp(), images(16)
    y = predicted(model, x)
    outcome = assay.attack(model, x, y, attack, max_forwards=budget, preflight=False, slots=5)
    assert (outcome.forwards <= budget).all()


def test_one_failed_start_does_not_stop_the_others():
    """A sample that no random image can break is not run; the rest are attacked as if it were not there."""
    base, x = mlp(), images(16)
    y = predicted(base, x)

    def stubborn(z):
        logits = base(z)
        near = (z - x[3]).flatten(1).abs().amax(1) < 2.0
        wall = torch.zeros_like(logits).scatter(1, y[3].expand(len(z), 1), 100.0)
        mine = (torch.cdist(z.flatten(1), x.flatten(1)).argmin(1) == 3) & near
        return torch.where(mine[:, None], wall, logits)

    alone = torch.tensor([i for i in range(16) if i != 3])
    attack = assay.HopSkipJump(3, samples=20, starts=5)
    always = QueryModel(lambda a: np.full(len(a), int(y[3])), gives="labels", classes=4)
    lost = assay.attack(always, x[3:4], y[3:4], attack, preflight=False)
    assert lost.counts["not run"] == 1
    assert lost.forwards.item() == 5
    whole = assay.attack(stubborn, x, y, attack, preflight=False)
    assert (whole.status[alone] == int(assay.Status.BROKEN)).all()


def test_estimated_gradient_of_a_linear_function_is_its_weight():
    weight = torch.randn(2, 1, 3, 3, generator=torch.Generator().manual_seed(0)).double()
    oracle = Oracle(Linear(weight).double())
    x = torch.full((2, 1, 3, 3), 0.5).double()
    rows = Rows(x, untargeted(torch.zeros(2, dtype=torch.long)), torch.arange(2))
    oracle.start(2)
    step = torch.zeros(2, dtype=torch.long)
    seen = EstimatingOracle(oracle, 4000, 1e-3, Rng(), step).evaluate(Margin(), x, rows)
    true = weight[1] - weight[0]
    assert ((seen.grad - true).flatten(1).norm(dim=1) / true.norm() < 0.1).all()
    assert (oracle.forwards == 8001).all()
    assert (oracle.backwards == 0).all()


@pytest.mark.parametrize("further", [False, True])
def test_a_ray_finds_the_boundary(further):
    """Along a direction whose boundary is known, from lengths on either side of it."""
    edge = torch.tensor([0.3, 1.0, 2.0, 0.05])
    start = torch.tensor([0.5, 0.9, 2.1, 3.0])
    ray = begin(torch.ones(4, 1, 1, 1), start, torch.full((4,), 1e-4), further=further)
    for _ in range(200):
        if finished(ray).all():
            break
        ray = answer(ray, ask(ray) >= edge, 10.0)
    assert finished(ray).all()
    known = torch.isfinite(ray.high)
    assert known.tolist() == [True, further, True, True]
    assert ((ray.high - edge)[known] >= 0).all()
    assert ((ray.high - edge)[known] <= 1e-4).all()


def test_square_profile_is_two_hills_of_length_one():
    made = _profile(7, 7)
    assert made.norm().item() == pytest.approx(1.0, abs=1e-6)
    assert (made[:3] > 0).all()
    assert (made[3:] < 0).all()


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_square_on_images_that_are_not_square(norm):
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 7 * 13, 3))
    x = torch.rand(6, 3, 7, 13, generator=torch.Generator().manual_seed(0))
    y = predicted(model, x)
    eps = 0.1 if norm == "linf" else 1.0
    outcome = assay.attack(model, x, y, assay.Square(eps, norm=norm, queries=200), preflight=False)
    assert outcome.robust_accuracy < 1


@pytest.mark.parametrize("channels", [1, 3])
def test_square_never_asks_about_the_same_image_twice_in_a_row(channels):
    """Where the sign of a small square is what it is already, it is drawn again (official code)."""
    asked = []

    def record(batch):
        asked.append(batch.copy())
        return np.stack([np.ones(len(batch)), np.zeros(len(batch))], 1)  # nothing is ever better than the start

    x = 0.5 * torch.ones(4, channels, 6, 6)
    assay.attack(
        QueryModel(record), x, torch.zeros(4, dtype=torch.long), assay.Square(0.1, queries=400), preflight=False
    )
    start = asked[1]
    same = [float(np.abs(batch - start).reshape(4, -1).max(1).min()) < 1e-7 for batch in asked[2:-1]]
    assert sum(same) == 0 if channels == 1 else sum(same) < 0.05 * len(same)


def test_query_model_says_what_is_wrong():
    x, y = images(4), torch.zeros(4, dtype=torch.long)
    with pytest.raises(
        ValueError, match=r"ask: expected scores of shape \(4, k\) \(for labels: .*\), got shape \(4,\)"
    ):
        QueryModel(lambda a: np.zeros(len(a)))(x)
    with pytest.raises(ValueError, match=r"ask: expected labels of shape \(4,\), got shape \(4, 2\)"):
        QueryModel(lambda a: np.zeros((len(a), 2)), gives="labels", classes=2)(x)
    with pytest.raises(TypeError, match="classes: expected a whole number"):
        QueryModel(lambda a: a, gives="labels")
    with pytest.raises(ValueError, match="attack: expected one that needs only queries"):
        assay.attack(asked(mlp(), "logits"), x, predicted(mlp(), x), assay.PGD(0.1), preflight=False)
    blind = QueryModel(lambda a: np.zeros(len(a)), gives="labels", classes=2)
    for attack in (assay.Square(0.1), assay.NES(0.1), assay.SimBA(), assay.ZOO(), assay.OnePixel()):
        with pytest.raises(ValueError, match="attack: expected one that goes by labels"):
            assay.attack(blind, torch.rand(1, 1, 4, 4), torch.zeros(1, dtype=torch.long), attack)
    limited = QueryModel(lambda a: np.zeros((len(a), 2)), most=5)
    limited(x)
    with pytest.raises(RuntimeError, match="4 of at most 5 queries are used; 4 more were asked for"):
        limited(x)
    assert y.sum() == 0


def test_layout_of_the_images_that_are_asked_about():
    shapes = []
    model = QueryModel(lambda a: (shapes.append(a.shape), np.zeros((len(a), 2)))[1], layout="nhwc")
    model(images(4))
    assert shapes == [(4, 6, 6, 2)]


def test_onnx_file(tmp_path):
    """The same answers as the network it was made from."""
    pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    helper = pytest.importorskip("onnx.helper", reason="onnx is not installed")
    import onnx

    from assay.models import from_onnx

    weight = np.random.default_rng(0).normal(size=(72, 3)).astype(np.float32)
    nodes = [helper.make_node("Flatten", ["x"], ["f"]), helper.make_node("MatMul", ["f", "w"], ["z"])]
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "g",
        [value("x", onnx.TensorProto.FLOAT, [None, 2, 6, 6])],
        [value("z", onnx.TensorProto.FLOAT, [None, 3])],
        [onnx.numpy_helper.from_array(weight, "w")],
    )
    path = tmp_path / "model.onnx"
    whole = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(whole, path)
    model = from_onnx(path)
    x = images(5)
    assert torch.allclose(model(x), x.flatten(1) @ torch.from_numpy(weight), atol=1e-5)
    with pytest.raises(FileNotFoundError, match="path: no file"):
        from_onnx(tmp_path / "none.onnx")

    # weights in a file beside it, or anywhere: not without a word of the user
    onnx.save(whole, tmp_path / "apart.onnx", save_as_external_data=True, location="weights.bin", size_threshold=0)
    with pytest.raises(ValueError, match=r"path: expected a file that holds its weights itself.*'weights.bin'"):
        from_onnx(tmp_path / "apart.onnx")
    assert torch.allclose(from_onnx(tmp_path / "apart.onnx", external=True)(x), model(x))
    constant = onnx.TensorProto(name="c", dims=[72, 3], data_type=onnx.TensorProto.FLOAT)
    constant.data_location = onnx.TensorProto.EXTERNAL
    constant.external_data.add(key="location", value="../../secret")
    graph.node.append(helper.make_node("Constant", [], ["c"], value=constant))
    (tmp_path / "hidden.onnx").write_bytes(helper.make_model(graph).SerializeToString())
    with pytest.raises(ValueError, match=r"'\.\./\.\./secret'"):
        from_onnx(tmp_path / "hidden.onnx")
    (tmp_path / "none.onnx").write_bytes(b"<html>404</html>")
    with pytest.raises(ValueError, match="path: expected an ONNX file"):
        from_onnx(tmp_path / "none.onnx")


def test_estimates_at_the_border_of_the_box_are_no_smaller():
    weight = torch.randn(2, 1, 3, 3, generator=torch.Generator().manual_seed(0)).double()
    oracle = Oracle(Linear(weight).double())
    x = torch.tensor([[0.0, 1.0, 0.5]] * 3).view(1, 1, 3, 3).double()
    rows = Rows(x, untargeted(torch.zeros(1, dtype=torch.long)), torch.arange(1))
    oracle.start(1)
    asked = EstimatingOracle(oracle, 8000, 1e-3, Rng(), torch.zeros(1, dtype=torch.long))
    true = weight[1] - weight[0]
    assert (asked.evaluate(Margin(), x, rows).grad - true).norm() / true.norm() < 0.1

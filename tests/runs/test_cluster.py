"""Whose Ray it is, without one: a stand-in that notes what it is asked."""

import sys
from types import SimpleNamespace

import pytest
import torch

from assay.runs.ray_executor import RayExecutor
from assay.store.model_source import ModelSource


class Stand:
    """As much of Ray as the executor touches."""

    def __init__(self, running, resources):
        self.running, self.resources, self.calls = running, resources, []
        self.exceptions = SimpleNamespace(RayTaskError=KeyError, RayError=OSError)

    def is_initialized(self):
        return self.running

    def init(self, **options):
        self.calls.append(("init", options))

    def shutdown(self):
        self.calls.append(("shutdown", {}))

    def cluster_resources(self):
        return self.resources

    def remote(self, **options):
        self.calls.append(("remote", options))
        return lambda function: function

    def put(self, what):
        return object()


@pytest.fixture
def made(monkeypatch):
    def make(*, running=False, resources=None):
        stand = Stand(running, resources or {"CPU": 8.0, "GPU": 2.0})
        monkeypatch.setitem(sys.modules, "ray", stand)
        return stand

    return make


@pytest.mark.parametrize("running", [True, False])
def test_only_a_connection_of_its_own_is_ended(made, running):
    stand = made(running=running)
    RayExecutor(workers=2).close()
    names = [name for name, _ in stand.calls]
    assert ("init" in names, "shutdown" in names) == (not running, not running)


def test_an_order_asks_for_what_it_needs(made):
    stand = made()
    assert RayExecutor(device="cuda:0").capacity == 3
    assert dict(stand.calls)["remote"]["num_gpus"] == 1
    assert RayExecutor(threads=4).capacity == 3
    assert dict(stand.calls[-1:])["remote"]["num_cpus"] == 4


def test_no_accelerator_in_the_cluster(made):
    made(resources={"CPU": 8.0})
    with pytest.raises(ValueError, match="device: expected an accelerator in the Ray cluster"):
        RayExecutor(device="cuda")


def test_started_here_it_listens_to_nobody_else(made):
    stand = made()
    RayExecutor(workers=2, threads=2)
    (options,) = (options for name, options in stand.calls if name == "init")
    assert options["_node_ip_address"] == "127.0.0.1"
    assert options["include_dashboard"] is False
    assert options["num_cpus"] == 4


def test_few_models_stay_in_the_object_store(made, tmp_path):
    from assay.models import build, digest, save

    made()
    executor = RayExecutor(workers=1)
    recipe = {"arch": "tiny-cnn", "channels": 3, "classes": 8, "size": 16, "normalize": "half"}
    for seed in range(9):
        torch.manual_seed(seed)
        model = build(**recipe)
        save(model, tmp_path / f"{seed}.safetensors", recipe)
        executor._put(ModelSource(str(tmp_path / f"{seed}.safetensors")), digest(model))
    assert len(executor._object_refs) <= 6
    assert ModelSource(str(tmp_path / "8.safetensors")) in executor._object_refs
    with pytest.raises(ValueError, match=r"what .* was when the run began"):
        executor._put(ModelSource(str(tmp_path / "0.safetensors")), "of others")  # a file that has changed since

"""Every method on every network it can use, and through the whole line once."""

from dataclasses import replace

import pytest
import torch

import distilset
from distilset.errors import ConfigError
from distilset.methods import METHODS
from distilset.models import NETWORKS, NetworkConfig
from distilset.optimise import descend
from distilset.plan import make_plan
from distilset.store import DistilledSet
from distilset.testing import drawn_images
from tests.models.test_networks import NARROW
from tests.small import call, distil, refused, short_config, splits, write_npz

TRAIN = drawn_images((3, 12, 8), (4, 3))
OWN = "tests.models.nets:Plain:maps=ReLU"


def images_of(method, network):
    plan = make_plan(replace(short_config(method), network=network), TRAIN)
    plan.task.train_experts()
    start = torch.randn(2, 3, 12, 8, generator=torch.Generator().manual_seed(0))
    state = plan.start(start.clone())
    losses = [
        float(record.loss)
        for record in descend(state, plan.method, steps=2, image_lr=0.1, momentum=0.5)
    ]
    return start, state.images, losses


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", NETWORKS)
def test_every_network_distils_with_each_method_it_can(name, method):
    config = NetworkConfig(name=name, **NARROW[name])
    if name == "mlp" and method in ("atom", "datadam"):
        with pytest.raises(ConfigError, match="no activation maps"):
            images_of(method, config)
        return
    start, images, losses = images_of(method, config)
    assert all(0 < loss < float("inf") for loss in losses)
    assert all((after != before).any() for after, before in zip(images, start, strict=True))


@pytest.mark.parametrize("method", METHODS)
def test_ones_own_network_equals_one_with_features_of_its_own(method):
    hooked = images_of(method, NetworkConfig(name=OWN))
    own = images_of(method, NetworkConfig(name="tests.models.nets:WithFeatures"))
    assert torch.equal(hooked[1], own[1])


@pytest.mark.parametrize("method", ["dm", "frepo", "mtt"])
def test_a_network_with_fused_attention(method):
    start, images, _ = images_of(method, NetworkConfig(name="tests.models.nets:WithAttention"))
    assert not torch.equal(start, images)


def test_without_maps_only_dm_is_possible():
    images_of("dm", NetworkConfig(name="tests.models.nets:Plain"))
    with pytest.raises(ConfigError, match="no activation maps"):
        images_of("atom", NetworkConfig(name="tests.models.nets:Plain"))


def test_a_run_on_ones_own_network_from_the_command_line(capsys, tmp_path):
    data, run = write_npz(tmp_path / "data.npz"), tmp_path / "run"
    steps = ("--steps", 2, "--ipc", 1, "--compile", "off", "--threads", 1, "--batch-real", 4)
    line = ("distill", data, "--out", run, *steps)
    assert call(capsys, *line, "--network", OWN)[0] == 0
    card = DistilledSet.load(run).card
    assert (card.network, card.norm) == (OWN, "own")
    sentence = refused(capsys, "evaluate", run, "--epochs", 1, "--trials", 1)
    assert f"name it with --network {OWN}" in sentence
    assert f"resume it with --network {OWN}" in refused(capsys, *line, "--resume")
    assert call(capsys, *line, "--network", OWN, "--resume")[0] == 0
    asked = ("--network", OWN, "--network", "mlp:width=8", "--epochs", 1, "--trials", 1)
    code, out, _ = call(capsys, "evaluate", run, *asked, "--device", "cpu")
    assert (code, "mlp:width=8" in out) == (0, True)
    sentence = refused(
        capsys, "distill", data, "--out", tmp_path / "b", "--preset", run / "run.toml"
    )
    assert "names code to import" in sentence


def test_a_run_on_a_pool_is_written_resumed_and_evaluated(capsys, tmp_path):
    data, run = write_npz(tmp_path / "data.npz"), tmp_path / "run"
    pool = "convnet:width=8,depth=2,resnet18:width=4,norm=batch"
    line = ("distill", data, "--out", run, "--network", pool, "--ipc", 1, "--batch-real", 4)
    line = (*line, "--compile", "off", "--threads", 1)
    assert call(capsys, *line, "--steps", 2)[0] == 0
    assert call(capsys, *line, "--steps", 4, "--resume")[0] == 0
    loaded = DistilledSet.load(run)
    assert (loaded.card.network, loaded.card.steps) == ("convnet,resnet18", 4)
    assert loaded.settings["network"]["pool"] == ["resnet18:width=4,norm=batch"]
    fast = ("--epochs", 1, "--trials", 1, "--device", "cpu")
    code, out, _ = call(capsys, "evaluate", run, *fast, "--json")
    assert (code, '"convnet:width=8,depth=2"' in out, "resnet18" in out) == (0, True, False)
    code, out, _ = call(capsys, "evaluate", run, *fast, "--network", pool, "--json")
    assert (code, '"convnet:width=8,depth=2"' in out, '"resnet18:width=4"' in out) == (
        0,
        True,
        True,
    )


def test_a_network_of_one_norm_leaves_the_others_theirs(tmp_path):
    """The ``none`` of an MLP is not inherited by a network that has a choice."""
    from distilset.evaluation import Request

    made = distil(method="dm", network="mlp:width=8", settings={"network": {}}, steps=1)
    request = Request(networks=({"name": "resnet18"}, {"name": "vit"}, {"name": "alexnet"}))
    assert [n.norm for n in request.networks_of(made)] == ["instance", "layer", "instance"]


@pytest.mark.parametrize("name", [*NETWORKS, OWN])
def test_networks_trained_together_become_what_they_become_alone(name):
    made, test = distil(steps=0), splits().test
    options = ",".join(f"{key}={value}" for key, value in NARROW.get(name, {}).items())
    network = f"{name}:{options}" if options else name
    fast = {"network": network, "epochs": 3, "trials": 2, "device": "cpu", "precision": "fp32"}
    apart, together = (distilset.evaluate(made, test, together=n, **fast) for n in (1, 2))
    assert together.accuracies == pytest.approx(apart.accuracies, abs=6)  # one image of 18

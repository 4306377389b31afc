import json

import pytest
import torch
from safetensors.torch import load_file, save_file

import distilset
from distilset.errors import ConfigError, DataError
from distilset.models import NetworkConfig, build_network
from distilset.types import ImageSpec
from tests.small import distil, mutations, splits

FAST = {"network": "convnet:width=8,depth=2", "epochs": 2, "device": "cpu", "precision": "fp32"}


@pytest.fixture(scope="module", params=[False, True])
def made(request):
    return distil(zca=request.param, steps=2)


@pytest.fixture(scope="module")
def trained(made):
    return distilset.train_network(made, **FAST)


@pytest.fixture
def file(trained, tmp_path):
    return trained.save(tmp_path / "model.safetensors")


def test_it_comes_back_with_its_transform(trained, file):
    loaded = distilset.load_network(file)
    test = splits().test.images
    assert torch.equal(loaded.scores(test), trained.scores(test))
    assert loaded.classes == splits().train.classes
    assert not loaded.network.training
    expected = trained.transform.apply(test)
    assert torch.equal(loaded.transform.apply(test), expected)
    for key, value in (("seed", 0), ("method", "atom"), ("dataset", "drawn")):
        assert loaded.facts[key] == value
    assert loaded.facts["protocol"]["name"] == "dm"
    assert loaded.facts["protocol"]["epochs"] == 2


def test_it_is_the_network_that_evaluation_scores_first(made, trained):
    test = splits().test
    accuracies = distilset.evaluate(made, test, trials=1, **FAST).accuracies
    right = (trained.scores(test.images).argmax(1) == test.labels).float().mean()
    assert 100 * float(right) == pytest.approx(accuracies[0], abs=1e-4)


def test_the_seed_decides(made):
    first, second = (
        distilset.train_network(made, seed=seed, **FAST).network.state_dict() for seed in (0, 1)
    )
    assert not all(torch.equal(first[key], second[key]) for key in first)


def test_a_network_that_is_given_takes_the_weights(trained, file):
    own = build_network(NetworkConfig(width=8, depth=2), ImageSpec(3, 8, 8), 3)
    assert distilset.load_network(file, network=own).network is own
    test = splits().test.images
    assert torch.equal(own.eval()(trained.transform.apply(test)), trained.scores(test))
    with pytest.raises(DataError, match="does not hold"):
        distilset.load_network(file, network=torch.nn.Linear(2, 2))


def refacted(file, **changes):
    facts = json.loads(_metadata(file)) | changes
    save_file(load_file(file), file, {"distilset": json.dumps(facts)})


def _metadata(file):
    from safetensors import safe_open

    with safe_open(file, framework="pt") as opened:
        return opened.metadata()["distilset"]


def test_code_that_only_a_file_names_is_not_imported(file):
    refacted(file, network={"name": "evil_module:Network"})
    with pytest.raises(ConfigError, match="is not imported"):
        distilset.load_network(file)


@pytest.mark.parametrize(
    "changes",
    [{"image": [3, 8]}, {"classes": ["a"]}, {"network": {"name": "convnet"}}, {"mean": None}],
)
def test_facts_that_do_not_fit_are_told(file, changes):
    refacted(file, **changes)
    with pytest.raises(DataError, match="does not hold"):
        distilset.load_network(file)


def test_files_that_are_no_networks(file, tmp_path):
    with pytest.raises(DataError, match="there is no file"):
        distilset.load_network(tmp_path / "none")
    save_file({"x": torch.rand(2)}, tmp_path / "other")
    with pytest.raises(DataError, match="no network"):
        distilset.load_network(tmp_path / "other")
    outcomes = {_outcome(file, content) for content in mutations(file.read_bytes(), 20)}
    assert "refused" in outcomes
    assert outcomes <= {"refused", "read"}


def _outcome(file, content):
    file.write_bytes(content)
    try:
        distilset.load_network(file)
    except (DataError, ConfigError):
        return "refused"
    return "read"


def test_what_is_there_is_kept(trained, file, tmp_path):
    before = file.read_bytes()
    with pytest.raises(DataError, match="--overwrite"):
        trained.save(file)
    trained.save(file, overwrite=True)
    assert file.read_bytes() == before
    for path in (tmp_path, tmp_path / "none" / "x"):
        with pytest.raises(DataError, match="choose another path"):
            trained.save(path)


def test_a_training_that_diverges_is_told(made):
    from dataclasses import replace

    wild = replace(made, pixels=made.pixels * 1e30)
    with pytest.raises(DataError, match="diverged"):
        distilset.train_network(wild, **FAST, norm="none")

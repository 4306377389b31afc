"""Shapes are checked in every test; caches are the tests' own; one thread, so that workers fit."""

import shutil
import sys

import hypothesis
import pytest
import torch
from jaxtyping import install_import_hook

install_import_hook("distilset", "beartype.beartype")

torch.set_num_threads(1)

# How long an example takes says how busy the machine is, and nothing of the code.
hypothesis.settings.register_profile(
    "untimed", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("untimed")


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("DISTILSET_CACHE", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture(autouse=True)
def _short_trainings(monkeypatch):
    """Selectors that train networks on all images do so for an epoch or two, narrow ones."""
    from distilset.models import NetworkConfig

    monkeypatch.setattr("distilset.selectors.hardness.NETWORK", NetworkConfig(width=8))
    monkeypatch.setattr("distilset.selectors.el2n.NETWORKS", 2)
    monkeypatch.setattr("distilset.selectors.el2n.EPOCHS", 1)
    monkeypatch.setattr("distilset.selectors.forgetting.EPOCHS", 3)


@pytest.fixture(scope="session")
def data(tmp_path_factory):
    """Draw a data set that the command line can read."""
    from tests.small import write_npz

    return write_npz(tmp_path_factory.mktemp("data") / "drawn.npz")


@pytest.fixture(scope="session")
def made(data, tmp_path_factory):
    """Make a distilled run and a selection once; tests copy them."""
    from distilset import cli
    from tests.small import ARGS

    folder = tmp_path_factory.mktemp("made")
    args = ["distill", data, "--out", str(folder / "run"), "--steps", "4", "--val", "0.25", *ARGS]
    select = ["select", data, "--out", str(folder / "chosen"), "--selector", "kcenter"]
    for words in (args, [*select, "--ipc", "1", "--val", "0.25"]):
        before, sys.argv = sys.argv, ["distilset", *words]
        try:
            with pytest.raises(SystemExit) as end:
                cli.main()
        finally:
            sys.argv = before
        assert end.value.code == 0
    return folder


@pytest.fixture
def run(made, tmp_path):
    return shutil.copytree(made / "run", tmp_path / "run")

import pytest
import torch

import distilset
from distilset import ConfigError, DataError, DistilledSet
from distilset.api import data_table, train_settings
from distilset.selectors import SELECTORS
from distilset.types import DatasetInfo, Splits
from tests.small import NETWORK, PULL, distil, same_images, splits

FAST = {"epochs": 1, "trials": 2, "device": "cpu"}


@pytest.fixture(scope="module")
def made():
    return distil()


def test_public_names_are_there_and_others_are_not():
    for name in distilset.__all__:
        assert getattr(distilset, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'distil'"):
        _ = distilset.distil


def test_flags_win_over_settings_and_settings_over_the_preset():
    made = distil(
        preset="datadam-cifar", steps=0, seed=2, zca=False, init="noise",
        settings={"distill": {"seed": 1, "momentum": 0.1}, "network": {"norm": "none"}},
    )  # fmt: skip
    stated = made.settings
    assert stated["method"]["name"] == "datadam"
    assert (stated["distill"]["seed"], stated["distill"]["momentum"]) == (2, 0.1)
    assert stated["network"] == {**stated["network"], **NETWORK, "norm": "none"}
    assert (made.card.method, made.card.steps, made.card.norm) == ("datadam", 0, "none")


def test_progress_is_called_after_every_step():
    seen = []
    distil(steps=4, progress=lambda record: seen.append((record.step, float(record.loss))))
    assert [step for step, _ in seen] == [1, 2, 3, 4]
    assert all(loss > 0 for _, loss in seen)


def test_a_run_with_a_folder_equals_one_without(made, tmp_path):
    assert same_images(distil(out=tmp_path / "run"), made)
    assert same_images(DistilledSet.load(tmp_path / "run"), made)


@pytest.mark.parametrize(
    ("flags", "part"),
    [
        ({"method": "datdam"}, "did you mean 'datadam'"),
        ({"stepz": 3}, "did you mean 'steps'"),
        ({"ipc": 7}, "(6)"),
        ({"steps": "1"}, "distill.steps"),
        ({"preset": "none"}, "unknown preset"),
        ({"settings": {"method": {"powr": 1}}}, "'powr'"),
        ({"init": "nowhere"}, "unknown init"),
        ({"threads": 0}, "engine.threads"),
    ],
)
def test_wrong_calls_are_told(flags, part):
    with pytest.raises(ConfigError) as caught:
        distil(**flags)
    assert part in str(caught.value)


def test_only_a_train_part_is_distilled_or_selected_from():
    for role in ("test", "val"):
        part = splits().train.take(range(18), role)
        with pytest.raises(ConfigError, match=f"got the {role} split"):
            distil(part)
        with pytest.raises(ConfigError, match=f"got the {role} split"):
            distilset.select(part, "random", 1)


def test_an_empty_class_is_named():
    with pytest.raises(ConfigError, match="class 'class 1' has no training images"):
        distil(splits(counts=(6, 0, 6)).train, init="noise")


@pytest.mark.parametrize("name", SELECTORS)
@pytest.mark.parametrize("zca", [False, True])
def test_selections_are_real_images_and_survive_the_disk(tmp_path, name, zca):
    train = splits().train
    chosen = distilset.select(train, name, 2, seed=1, zca=zca)
    chosen.save(tmp_path / "run")
    loaded = DistilledSet.load(tmp_path / "run")
    rows = list(loaded.card.rows)
    assert len(rows) == len(set(rows)) == 6
    assert train.labels[rows].tolist() == loaded.labels.tolist() == [0, 0, 1, 1, 2, 2]
    assert torch.allclose(loaded.pixels * 255, train.images[rows].float(), atol=1e-3)
    expected = loaded.transform.apply(train.images[rows])
    assert torch.allclose(loaded.tensors()[0], expected, atol=1e-4)
    assert (loaded.card.kind, loaded.card.method, loaded.card.seed) == ("selection", name, 1)


def test_wrong_selections_are_told():
    for arguments in (("best", 1), ("random", 7), ("random", 0)):
        with pytest.raises(ConfigError):
            distilset.select(splits().train, *arguments)


def last_of_each(train, ipc, rng, features):
    return torch.cat([torch.arange(end - ipc, end) for end in train.offsets[1:]])


def test_any_function_selects(tmp_path):
    train = splits().train
    chosen = distilset.select(train, last_of_each, 2)
    assert chosen.card.rows == (4, 5, 10, 11, 16, 17)
    assert (chosen.card.method, chosen.settings["selection"]["selector"]) == ("last_of_each",) * 2
    run = chosen.save(tmp_path / "chosen")
    assert distil(train, ipc=2, steps=1, init=str(run)).pixels.shape == chosen.pixels.shape


@pytest.mark.parametrize(
    "rows",
    [
        [0, 1, 2, 3, 4, 5],
        torch.arange(6.0),
        torch.tensor([0, 0, 6, 7, 12, 13]),
        torch.tensor([6, 7, 0, 1, 12, 13]),
        torch.tensor([0, 1, 6, 7, 12]),
        torch.tensor([0, 1, 6, 7, 12, 18]),
    ],
)
def test_a_function_that_selects_wrongly_is_told(rows):
    with pytest.raises(ConfigError, match="selector <lambda> must return int64 rows"):
        distilset.select(splits().train, lambda *_: rows, 2)


def test_evaluating_gives_a_row(made):
    score = distilset.evaluate(made, splits().test, **FAST)
    assert (score.trials, score.epochs, score.split, score.images) == (2, 1, "test", 3)
    assert (score.network, score.norm, score.protocol, score.method) == (
        *("convnet:width=8,depth=2", "instance", "dm", "atom"),
    )
    again = distilset.evaluate(made, splits().test, **FAST)
    assert again.accuracies == score.accuracies
    assert "accuracy" in str(score)


def test_somebody_elses_method_is_evaluated_by_its_own_network():
    made = distil(method=PULL, norm="batch")
    assert distilset.evaluate(made, splits().test, **FAST).norm == "batch"
    assert distilset.evaluate(made, splits().test, norm="none", **FAST).norm == "none"


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        ({"network": "resnet"}, "unknown network"),
        ({"norm": "bach"}, "norm"),
        ({"protocol": "long"}, "unknown protocol"),
        ({"precision": "fp8"}, "unknown precision"),
        ({"device": "gpu"}, "device 'gpu'"),
        ({"trials": 0}, "1 or more"),
        ({"epochs": 0}, "1 or more"),
        ({"threads": 0}, "threads must be"),
    ],
)
def test_wrong_evaluations_are_told(made, arguments, part):
    with pytest.raises(ConfigError) as caught:
        distilset.evaluate(made, splits().test, **{**FAST, **arguments})
    assert part in str(caught.value)


def test_what_does_not_fit_is_not_scored(made):
    with pytest.raises(ConfigError, match="got a train part"):
        distilset.evaluate(made, splits().train, **FAST)
    with pytest.raises(DataError, match="3 classes"):
        distilset.evaluate(made, splits(counts=(3, 3)).test, **FAST)
    with pytest.raises(DataError, match="1x8x8"):
        distilset.evaluate(made, splits(shape=(1, 8, 8)).test, **FAST)
    with pytest.raises(DataError, match="no images to score on"):
        distilset.evaluate(made, splits(counts=(0, 0, 0)).test, **FAST)


def test_precision_is_resolved_for_training():
    assert train_settings("cpu", "fp32").precision == "fp32"
    assert train_settings("cpu", "bf16").precision == "bf16"


def test_data_are_named_so_that_they_load_again(tmp_path):
    info = DatasetInfo("digits", "scikit-learn", (0.5,), (0.5,), split_seed=3, val_fraction=0.1)
    assert data_table(info) == {"source": "digits", "val": 0.1, "split_seed": 3}
    info = DatasetInfo("cifar10", str(tmp_path), (0.5,), (0.5,), resolution=16, like="cifar10")
    expected = {"source": str(tmp_path), "resolution": 16, "like": "cifar10"}
    assert data_table(info) == expected | {"val": 0.0, "split_seed": 0}


def test_splits_are_told_from_their_parts():
    """What runs without the tests' type checks: the sentence for a likely mistake."""
    from distilset.plan import check_train

    check = getattr(check_train, "__wrapped__", check_train)
    with pytest.raises(ConfigError, match="got Splits"):
        check(Splits(splits().train, None))


def test_evaluating_variants(made):
    plain, png = (
        distilset.evaluate(made, splits().test, **FAST, **more)
        for more in ({"augment": "off"}, {"pixels": "png"})
    )
    assert (plain.augmentation, plain.pixels) == ("none", "float")
    assert (png.augmentation, png.pixels) == ("dsa", "png")
    with pytest.raises(ConfigError, match="gives one row"):
        distilset.evaluate(made, splits().test, **FAST, pixels="both")

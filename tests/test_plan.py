from dataclasses import replace

import pytest
import torch

from distilset import hardware
from distilset.config import build
from distilset.errors import ConfigError
from distilset.estimates import worker_bytes
from distilset.hardware import default_workers
from distilset.outline import plan_rows
from distilset.plan import (
    make_plan,
    resolve,
    versions,
    with_checkpoints,
    with_workers,
)
from distilset.testing import drawn_images
from distilset.types import Splits
from tests.small import ENGINE, NETWORK, splits


def config(**sections):
    tables = {"data": {"source": "x"}, "network": NETWORK, "engine": ENGINE}
    tables["distill"] = {"ipc": 1, "steps": 4, "batch_real": 4}
    for section, values in sections.items():
        tables[section] = {**tables.get(section, {}), **values}
    return build(tables)


def test_every_open_setting_is_resolved():
    open_ = config(engine={"device": "auto", "precision": "auto", "compile": "auto"})
    open_ = build({"data": {"source": "x"}, "distill": {"steps": 5}})
    resolved, reasons = resolve(open_, splits().train)
    assert resolved.engine.device in ("cpu", "cuda")
    assert (resolved.engine.compile, resolved.distill.image_lr) == ("off", 1.0)
    assert resolved.engine.precision in ("fp32", "bf16")
    assert resolved.engine.threads == torch.get_num_threads()
    assert resolved.engine.chunk is not None
    assert resolved.network.depth == 3
    assert "fewer than" in reasons["compile"]
    again, _ = resolve(resolved, splits().train)
    assert again == resolved


@pytest.mark.parametrize(("ipc", "lr"), [(50, 1.0), (51, 10.0)])
def test_the_learning_rate_follows_the_table(ipc, lr):
    resolved, _ = resolve(config(distill={"ipc": ipc}), splits().train)
    assert resolved.distill.image_lr == lr
    stated, _ = resolve(config(distill={"ipc": ipc, "image_lr": 0.3}), splits().train)
    assert stated.distill.image_lr == 0.3


@pytest.mark.parametrize(("side", "depth"), [(32, 3), (33, 4), (64, 4), (65, 5)])
def test_the_depth_follows_the_resolution_unless_given(side, depth):
    train = drawn_images((1, side, 8), (1, 1))
    bare = build({"data": {"source": "x"}, "engine": ENGINE})
    assert resolve(bare, train)[0].network.depth == depth
    assert resolve(config(), train)[0].network.depth == 2


def test_images_that_have_no_mirror_image_are_not_flipped():
    train = splits().train
    assert "flip" in resolve(config(), train)[0].augmentation.operations
    resolved, reasons = resolve(config(), train.with_info(mirror=False))
    assert "flip" not in resolved.augmentation.operations
    assert "mirrored" in reasons["augmentation"]


def test_settings_state_everything_and_what_made_the_run():
    plan = make_plan(config(), splits().train)
    made = plan.settings["made"]
    assert made["fingerprint"] == splits().train.digest
    assert made["torch"] == torch.__version__
    assert set(versions()) <= set(made)
    assert set(plan.settings) == {
        *("data", "distill", "network", "augmentation", "experts", "engine", "method", "made"),
    }


def test_checkpoints_come_about_every_minute_unless_given():
    plan = make_plan(config(), splits().train)
    assert with_checkpoints(plan, 0.5).config.engine.checkpoint_every == 120
    assert with_checkpoints(plan, 300.0).config.engine.checkpoint_every == 1
    given = make_plan(config(engine={"checkpoint_every": 7}), splits().train)
    assert with_checkpoints(given, 0.5).config.engine.checkpoint_every == 7


def test_the_plan_tells_what_will_be_done():
    train = splits().train
    plan = make_plan(config(), train)
    rows = dict(plan_rows(plan, Splits(train, None)))
    assert "18 train" in rows["data"]
    assert "no test part" in rows["data"]
    assert rows["images"].startswith("3x8x8, 3 classes")
    assert rows["synthetic"] == "3 images, 1 per class, from random"
    assert plan.bytes > train.images.numel()


def test_adam_and_a_falling_rate_are_told_and_a_second_moment_takes_memory():
    train = splits().train
    how = {"optimizer": "adam", "schedule": "cosine"}
    plain, adam = make_plan(config(), train), make_plan(config(distill=how), train)
    told = [dict(plan_rows(plan, Splits(train, None)))["steps"] for plan in (plain, adam)]
    assert told[0] == "4, image lr 1, momentum 0.5"
    assert told[1] == "4, Adam, image lr 0.02 falling to 0 (cosine), momentum 0.9"
    assert adam.bytes - plain.bytes == 2 * 4 * 3 * 3 * 8 * 8  # its own, and the kept state's


def test_a_factor_counts_in_the_images_of_a_step_and_in_memory():
    train = splits(counts=(12, 12, 12)).train
    small = {**ENGINE, "chunk": 4}
    plans = [
        make_plan(config(distill={"factor": f, "ipc": 2}, engine=small), train) for f in (1, 2)
    ]
    assert [plan.images_per_step for plan in plans] == [6 + 12, 24 + 12]
    assert plans[0].bytes < plans[1].bytes
    rows = dict(plan_rows(plans[1], Splits(train, None)))
    cut = "each cut into 4 to train on (factor 2)"
    assert rows["synthetic"] == f"6 images, 2 per class, from random, {cut}"


def test_memory_grows_with_the_synthetic_images_but_not_with_the_real_batch():
    train = splits().train
    base = make_plan(config(), train).bytes
    assert make_plan(config(distill={"batch_real": 64}), train).bytes == base
    assert make_plan(config(distill={"ipc": 6}), train).bytes > base


def test_whitening_large_images_is_refused_with_the_reason():
    with pytest.raises(ConfigError, match="ZCA"):
        make_plan(config(data={"zca": True}), drawn_images((1, 65, 8), (2, 2)))


def test_nothing_left_to_match_is_refused():
    nothing = {"name": "dm"}, {"name": "atom", "scale": 0.0}
    make_plan(config(method=nothing[0]), splits().train)
    with pytest.raises(ConfigError, match="nothing is left to match"):
        make_plan(config(method=nothing[1]), splits().train)


def test_the_processes_of_a_bank_do_not_depend_on_its_size_and_are_written_down():
    engine = {**ENGINE, "threads": 5}
    for bank in (1, 1000):
        plan = make_plan(config(distill={"bank": bank}, engine=engine), splits().train)
        assert (plan.task.bank_workers, plan.task.bank_threads) == (2, 2)
        assert plan.settings["engine"]["bank_workers"] == 2
    assert "bank_workers" not in make_plan(config(engine=engine), splits().train).settings["engine"]


def test_processes_need_a_thread_each_and_a_cpu():
    def many(number, **engine):
        engine = {**ENGINE, "threads": 3, "bank_workers": number, **engine}
        return make_plan(config(distill={"bank": 1}, engine=engine), splits().train)

    assert many(3).task.bank_threads == 1
    with pytest.raises(ConfigError, match=r"bank_workers may be 1 to 3 .*got 4"):
        many(4)
    plan = many(1)
    elsewhere = replace(plan.config, engine=replace(plan.config.engine, device="cuda"))
    assert with_workers(elsewhere, plan.task)[1].bank_workers == 1
    elsewhere = replace(elsewhere, engine=replace(elsewhere.engine, bank_workers=2))
    with pytest.raises(ConfigError, match="only a CPU"):
        with_workers(elsewhere, plan.task)


def test_processes_of_a_bank_take_half_of_the_memory(monkeypatch):
    train = splits().train
    each = worker_bytes(make_plan(config(distill={"bank": 1}), train).task)
    for memory, workers in ((6 * each, 3), (100 * each, 4), (each, 1), (None, 4)):
        monkeypatch.setattr(hardware, "memory_bytes", lambda memory=memory: memory)
        assert default_workers(8, "cpu", each) == workers
    assert default_workers(8, "cuda", each) == 1
    larger = make_plan(config(distill={"bank": 1, "batch_real": 64}), train).task
    whitened = make_plan(config(distill={"bank": 1}, data={"zca": True}), train).task
    assert min(worker_bytes(larger), worker_bytes(whitened)) > each

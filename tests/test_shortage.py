from dataclasses import replace

import pytest
import torch

from distilset import ConfigError, shortage
from distilset.plan import make_plan
from distilset.shortage import attempt, check_memory, enduring, is_shortage, smaller
from tests.small import ARGS, call, splits, write_npz
from tests.test_plan import config


def plan_of(**sections):
    return make_plan(config(**sections), splits().train)


def test_the_cpus_own_refusal_is_recognised():
    with pytest.raises(RuntimeError) as caught:
        torch.empty(1 << 60, dtype=torch.uint8)
    assert is_shortage(caught.value)
    assert attempt(lambda: torch.empty(1 << 60, dtype=torch.uint8))[1] is not None


def test_other_errors_go_through():
    assert is_shortage(torch.OutOfMemoryError("CUDA out of memory"))
    assert is_shortage(MemoryError())
    assert not is_shortage(RuntimeError("shapes do not fit"))
    assert not is_shortage(ValueError("not enough memory"))
    with pytest.raises(RuntimeError, match="shapes"):
        attempt(lambda: torch.zeros(2) @ torch.zeros(3, 3) if False else raise_shapes())
    assert attempt(lambda: 3) == (3, None)


def raise_shapes():
    raise RuntimeError("shapes do not fit")


def test_work_is_repeated_with_half_the_chunk_until_it_fits():
    tried = []

    def work(plan):
        chunk = plan.task.settings.chunk
        tried.append((chunk, plan.config.engine.chunk))
        assert all(engine.settings.chunk == chunk for engine in plan.method.engines)
        if chunk > 3:
            raise MemoryError
        return "done"

    result, plan, notes = enduring(plan_of(engine={"chunk": 13}), work)
    assert result == "done"
    assert tried == [(13, 13), (6, 6), (3, 3)]
    assert plan.first_chunk == 13
    assert [note.rpartition("is ")[2] for note in notes] == ["6 now", "3 now"]


def test_whitened_images_are_not_whitened_again_for_a_smaller_chunk():
    plan = plan_of(data={"zca": True})
    whitened = plan.task.whitened
    assert smaller(plan, None)[0].task.whitened is whitened


def test_too_little_memory_is_told_before_the_start(monkeypatch, capsys, tmp_path):
    plan = plan_of()
    need = plan.bytes - plan.task.train.images.numel()
    for total, left, told in ((need, need, 0), (need, need - 1, 1), (None, None, 0)):
        monkeypatch.setattr(shortage, "memory_bytes", lambda total=total: total)
        monkeypatch.setattr(shortage, "available_bytes", lambda left=left: left)
        assert len(check_memory(plan)) == told
    monkeypatch.setattr(shortage, "memory_bytes", lambda: need - 1)
    with pytest.raises(ConfigError, match="GB of memory beside its data, and there are"):
        check_memory(plan)
    monkeypatch.setattr(shortage, "memory_bytes", lambda: 1 << 60)
    monkeypatch.setattr(shortage, "available_bytes", lambda: 1)
    data = write_npz(tmp_path / "data.npz")
    code, _, err = call(
        capsys, "distill", data, "--out", tmp_path / "run", "--steps", 2, *ARGS, "--dry-run"
    )
    assert code == 0
    assert "of memory are needed and 0.0 GB are free now" in " ".join(err.split())


def test_real_images_that_are_there_already_are_not_counted(monkeypatch):
    plan = plan_of()
    need = plan.bytes - plan.task.train.images.numel()
    monkeypatch.setattr(shortage, "memory_bytes", lambda: need)
    monkeypatch.setattr(shortage, "available_bytes", lambda: need)
    more = replace(plan, task=replace(plan.task, train=splits(counts=(60, 60, 60)).train))
    assert more.bytes > plan.bytes
    assert check_memory(more) == []

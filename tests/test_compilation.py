import gc
import sys
import types

import pytest
import torch

from distilset import compilation, hardware
from distilset.compilation import COMPILE_FROM_STEPS, Compiled, mark_step, resolve_compile
from distilset.config import build
from distilset.errors import ConfigError
from distilset.hardware import resolve_device, resolve_precision, threads
from distilset.plan import resolve
from tests.small import distil, same_images, splits

LONG = COMPILE_FROM_STEPS


class NoCompilerError(RuntimeError):
    """Stands for the compiler's own errors, which are told by their module."""


NoCompilerError.__module__ = "torch._inductor.exc"


def broken(function, **_options):
    def compiled(*_args):
        raise NoCompilerError("no compiler\nsecond line")

    return compiled


def test_it_is_decided_by_what_is_asked_and_by_the_steps(monkeypatch):
    monkeypatch.setattr(compilation, "_trial", lambda device: None)
    monkeypatch.setattr(compilation, "has_cpp_compiler", lambda: True)
    assert resolve_compile("on", 1, "cpu") == (True, "as asked")
    assert resolve_compile("off", LONG, "cpu") == (False, "as asked")
    assert resolve_compile("auto", LONG - 1, "cpu")[0] is False
    assert resolve_compile("auto", LONG, "cpu")[0] is True


def test_without_a_compiler_it_is_eager_with_the_reason(monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.delenv("CXX", raising=False)
    wanted, reason = resolve_compile("auto", LONG, "cpu")
    assert wanted is False
    assert "no C++ compiler found" in reason
    auto = build({"data": {"source": "x"}, "distill": {"steps": LONG, "ipc": 1}})
    resolved, reasons = resolve(auto, splits().train)
    if resolved.engine.device == "cpu":
        assert (resolved.engine.compile, resolved.engine.precision) == ("off", "fp32")
        assert "g++" in reasons["compile"]


def test_a_compiler_that_does_not_work_is_noticed(monkeypatch):
    monkeypatch.setattr(compilation, "has_cpp_compiler", lambda: True)
    monkeypatch.setattr(torch, "compile", broken)
    compilation._trial.cache_clear()
    try:
        wanted, reason = resolve_compile("auto", LONG, "cpu")
    finally:
        compilation._trial.cache_clear()
    assert (wanted, reason) == (False, "the compiler does not work here: no compiler")


def test_compiled_falls_back_to_eager_once_and_for_all(monkeypatch):
    calls = []
    monkeypatch.setattr(torch, "compile", lambda f, **o: calls.append(f) or broken(f))
    double = Compiled(lambda x: 2 * x, wanted=True)
    assert double(2) == 4
    assert double(3) == 6
    assert double.failure == "no compiler"
    assert len(calls) == 1


def test_a_platform_that_cannot_compile_runs_eagerly(monkeypatch):
    def refuse(_function, **_options):
        raise RuntimeError("torch.compile is not supported on this Python")

    monkeypatch.setattr(torch, "compile", refuse)
    double = Compiled(lambda x: 2 * x, wanted=True)
    assert double(2) == 4
    assert double.failure is not None
    assert "not supported" in double.failure


def test_the_functions_own_errors_go_through(monkeypatch):
    monkeypatch.setattr(torch, "compile", lambda f, **o: f)
    failing = Compiled(lambda x: 1 / x, wanted=True)
    with pytest.raises(ZeroDivisionError):
        failing(0)
    assert failing.failure is None


def test_a_run_whose_compilation_fails_goes_on_and_says_so(monkeypatch, tmp_path):
    eager = distil(steps=3)
    monkeypatch.setattr(torch, "compile", broken)
    made = distil(steps=3, compile="on", out=tmp_path / "run")
    assert same_images(made, eager)
    assert any("running eagerly: no compiler" in note for note in made.card.notes)


def test_cuda_graphs_on_a_gpu_only(monkeypatch):
    seen = []
    monkeypatch.setattr(torch, "compile", lambda f, **options: seen.append(options) or f)
    for device in ("cpu", "cuda", "cuda:1"):
        Compiled(lambda x: x, wanted=True, device=device)(1)
    graphs = {"dynamic": False, "mode": "reduce-overhead"}
    assert seen == [{"dynamic": False}, graphs, graphs]


def test_steps_are_marked_only_once_there_are_graphs(monkeypatch):
    name, calls = "torch._inductor.cudagraph_trees", []
    monkeypatch.setattr(torch.compiler, "cudagraph_mark_step_begin", lambda: calls.append(1))
    monkeypatch.delitem(sys.modules, name, raising=False)
    mark_step()
    assert calls == []
    monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    mark_step()
    assert calls == [1]


def test_precision_by_rule(monkeypatch):
    flags = {"amx": {"amx_bf16"}, "avx": {"avx512_bf16"}, "old": {"avx2"}}
    for name, expected in (("amx", "bf16"), ("avx", "bf16"), ("old", "fp32")):
        monkeypatch.setattr(hardware, "_cpu_flags", lambda name=name: frozenset(flags[name]))
        assert resolve_precision("auto", "cpu")[0] == expected
        assert resolve_precision("auto", "cpu", compiled=False)[0] == "fp32"
    assert resolve_precision("bf16", "cpu", compiled=False) == ("bf16", "as asked")
    for supported, expected in ((True, "bf16"), (False, "fp32")):
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda supported=supported: supported)
        assert resolve_precision("auto", "cuda")[0] == expected
    with pytest.raises(ConfigError, match="unknown precision 'fp16'"):
        resolve_precision("fp16", "cpu")


def test_devices_that_are_not_there_are_refused(monkeypatch):
    assert resolve_device("cpu") == "cpu"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert resolve_device("auto") == "cpu"
    for name in ("gpu", "", "cpu:x", "meta", "hpu", "cuda:99"):
        with pytest.raises(ConfigError, match="cannot be used") as caught:
            resolve_device(name)
        assert "\n" not in str(caught.value)


def test_threads_are_put_back_even_after_an_error():
    before = torch.get_num_threads()

    def fail():
        with threads(2):
            raise KeyError(torch.get_num_threads())

    with pytest.raises(KeyError, match="2"):
        fail()
    with threads(None):
        assert torch.get_num_threads() == before
    assert torch.get_num_threads() == before
    with pytest.raises(ConfigError, match="1 or more; got 0"), threads(0):
        pass


def test_what_was_compiled_is_given_up_with_the_function():
    """The compiler keeps it by code object: a process of many runs would grow with every one."""

    def alive() -> int:
        gc.collect()
        return sum(isinstance(one, torch.fx.GraphModule) for one in gc.get_objects())

    def use(number: int) -> None:
        weight = torch.full((3,), float(number), requires_grad=True)
        function = Compiled(lambda x: (x * weight).sum(), wanted=True)
        function.options = {"backend": "aot_eager"}  # the compiler's own part takes seconds
        function(torch.ones(3)).backward()
        assert function.failure is None
        assert weight.grad is not None

    use(0)
    before = alive()
    for number in range(1, 4):
        use(number)
    assert alive() <= before

"""What a distillation step and a training step spend their time on, by PyTorch's profiler.

    python benchmarks/profile_parts.py --ipc 10 --json FILE

Shares are of the operators' own time; `compiled` are the fused norms, activations, attention and
pooling, `rest` everything else: drawing, fetching, augmentation, the optimiser, launching.
"""

import argparse
from collections.abc import Callable
from pathlib import Path

from common import alternate, finish, spread, train_part
from evaluation import Bench
from step import make, our_step
from torch.profiler import ProfilerActivity, profile

from distilset.allocator import kept_memory

GROUPS = {
    "convolutions": ("mkldnn_convolution",),
    "convolutions backward": ("convolution_backward",),
    "compiled": ("Call CompiledFxGraph",),
    "matrix products": ("aten::mm", "aten::addmm", "aten::bmm"),
}


def shares(function: Callable[[], object], times: int) -> dict[str, float]:
    """Return each group's share of the operators' own time over several calls."""
    with profile(activities=[ProfilerActivity.CPU]) as profiler:
        for _ in range(times):
            function()
    found = dict.fromkeys([*GROUPS, "rest"], 0.0)
    for event in profiler.key_averages():
        names = (group for group, parts in GROUPS.items() if any(p in event.key for p in parts))
        found[next(names, "rest")] += event.self_cpu_time_total
    total = sum(found.values())
    return {name: round(value / total, 3) for name, value in found.items()}


def measure(name: str, function: Callable[[], object], steps: int, rounds: int) -> dict:
    """Time a function of ``steps`` steps, then profile it."""
    function()
    function()
    (times,) = alternate(rounds, function)
    return {
        "what": name,
        "step_seconds": spread([value / steps for value in times]),
        "shares": shares(function, 3),
    }


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])  # type: ignore[union-attr]
    parser.add_argument("--data", default="drawn")
    parser.add_argument("--ipc", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    rows = []
    with kept_memory():
        for norm in ("instance", "batch"):
            for method in ("datadam", "atom"):
                own = argparse.Namespace(
                    **vars(arguments),
                    method=method,
                    norm=norm,
                    network="convnet",
                    batch_real=128,
                    threads=None,
                    device="cpu",
                    compile="on",
                )
                step = our_step(*make(own, train_part(arguments.data)))
                rows.append(measure(f"{method} step, {norm}", step, 1, arguments.rounds))
            bench = Bench(argparse.Namespace(**vars(arguments), norm=norm, epochs=10))
            name = f"training step, {norm}"
            rows.append(measure(name, bench.train_ours, 10, arguments.rounds))
    finish({"ipc": arguments.ipc, "rounds": arguments.rounds, "rows": rows}, arguments.json)


if __name__ == "__main__":
    main()

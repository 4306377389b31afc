"""How well protocol `quick` ranks sets as protocol `dm` does, on a validation part of train.

    python benchmarks/quick_protocol.py FOLDER --like cifar10 --ipc 1 --trials 3 --json FILE

Sets of many qualities (random, herding and k-center picks, and three methods after few and many
steps) are scored by both protocols; the test split is not touched.
"""

import argparse
import json
import sys
from pathlib import Path

from scipy.stats import kendalltau, spearmanr

import distilset as ds


def make_sets(train: ds.ImageSet, ipc: int, steps: tuple[int, ...]) -> dict[str, ds.DistilledSet]:
    """Make sets of many qualities."""
    sets = {f"random, seed {seed}": ds.select(train, "random", ipc, seed=seed) for seed in (0, 1)}
    sets |= {name: ds.select(train, name, ipc) for name in ("herding", "kcenter")}
    for method in ("dm", "datadam", "atom"):
        for number in steps:
            name = f"{method}, {number} steps"
            print(name, file=sys.stderr)
            sets[name] = ds.distill(train, method=method, ipc=ipc, steps=number, compile="on")
    return sets


def measure(arguments: argparse.Namespace) -> dict:
    """Score every set by both protocols."""
    splits = ds.load_data(arguments.data, like=arguments.like, val=0.1)
    assert splits.val is not None
    rows = []
    for name, distilled in make_sets(splits.train, arguments.ipc, tuple(arguments.steps)).items():
        row: dict = {"set": name}
        for protocol in ("quick", "dm"):
            score = ds.evaluate(
                distilled, splits.val, protocol=protocol, trials=arguments.trials, seed=1
            )
            row[protocol] = score.accuracy_mean
            row[f"{protocol}_std"] = score.accuracy_std
            row[f"{protocol}_seconds"] = score.seconds
        print(row, file=sys.stderr)
        rows.append(row)
    quick, dm = [row["quick"] for row in rows], [row["dm"] for row in rows]
    return {
        "data": splits.info.name,
        "ipc": arguments.ipc,
        "trials": arguments.trials,
        "sets": len(rows),
        "spearman": float(spearmanr(quick, dm)[0]),  # type: ignore[arg-type]
        "kendall": float(kendalltau(quick, dm)[0]),  # type: ignore[arg-type]
        "time_ratio": sum(r["dm_seconds"] for r in rows) / sum(r["quick_seconds"] for r in rows),
        "rows": rows,
    }


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])  # type: ignore[union-attr]
    parser.add_argument("data")
    parser.add_argument("--like")
    parser.add_argument("--ipc", type=int, default=1)
    parser.add_argument("--trials", type=int, default=3)
    parser.add_argument("--steps", type=int, nargs="+", default=[20, 200])
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    result = measure(arguments)
    print("| set | `dm` % | `quick` % |\n|---|---|---|")
    for row in sorted(result["rows"], key=lambda row: row["dm"]):
        print(
            f"| {row['set']} | {row['dm']:.1f} ± {row['dm_std']:.1f} "
            f"| {row['quick']:.1f} ± {row['quick_std']:.1f} |"
        )
    print({key: value for key, value in result.items() if key != "rows"})
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()

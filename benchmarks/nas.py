"""Architecture search on a sample of the 720 ConvNets, by the command line: proxies compared.

    python benchmarks/nas.py CIFAR10 --like cifar10 --sample 30 --ipc 10 --json FILE
    python benchmarks/nas.py digits --sample 24 --epochs 30 --reference-updates 60 --json FILE

Distils DM, DataDAM and ATOM on the training part without its validation part, with banks of
targets (or takes ``--runs``), searches on them and on random and k-center picks and on early
stopping, prints the table as Markdown and writes the findings to FILE and the rows to a CSV of the
same name. What is on file is not done again: an interrupted call goes on where it stopped.
``--dry-run`` prints the plan of the search, with the work in operations, after distilling.
"""

import argparse
import csv
import json
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path

METHODS = ("atom", "datadam", "dm")  # what ATOM needs of the real images serves DataDAM
BASELINES = ("random", "kcenter", "early")


def distilset(*arguments: str) -> str:
    """Run one command of the command line; return its standard output."""
    print("$ distilset", *arguments, file=sys.stderr, flush=True)
    command = [sys.executable, "-m", "distilset", *arguments]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


def distil(arguments: argparse.Namespace) -> list[str]:
    """Distil with every method; return the run folders."""
    folders = []
    data = ["--val", str(arguments.val), *(["--like", arguments.like] if arguments.like else [])]
    for method in METHODS:
        folders.append(f"{arguments.out}/{method}-{arguments.ipc}")
        size = ["--ipc", str(arguments.ipc), "--steps", str(arguments.steps)]
        command = ["distill", arguments.data, *data, "--method", method, *size]
        bank = ["--bank", str(arguments.bank), "--seed", str(arguments.seed)]
        distilset(*command, *bank, "--out", folders[-1], "--resume")
    return folders


def search(arguments: argparse.Namespace, runs: list[str]) -> Path:
    """Search on the runs and the baselines; return the folder of the search."""
    out = f"{arguments.out}/search-{arguments.space}-{arguments.sample or 'all'}"
    options = ["--space", arguments.space, "--protocol", arguments.protocol]
    options += [word for name in BASELINES for word in ("--baseline", name)]
    values = {
        "--sample": arguments.sample,
        "--epochs": arguments.epochs,
        "--trials": arguments.trials,
        "--split": arguments.split,
        "--seed": arguments.seed,
        "--reference": arguments.reference,
        "--reference-updates": arguments.reference_updates,
        "--threads": arguments.threads,
        "--workers": arguments.workers,
    }
    for option, value in values.items():
        options += [] if value is None else [option, str(value)]
    options += ["--dry-run"] if arguments.dry_run else ["--resume"]
    distilset("nas", *runs, "--data", arguments.data, *options, "--out", out)
    return Path(out)


def without(path: Path, level: str) -> str:
    """Return Spearman's correlations over the networks that lack a level such as norm=batch.

    A look at the rows after the fact: it explains, and tests nothing.
    """
    from scipy.stats import spearmanr

    name, _, value = level.partition("=")
    known: dict[str, dict[str, list[float]]] = {}
    with path.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            if row[name] != value:
                own = known.setdefault(row["proxy"], {}).setdefault(row["member"], [])
                own.append(float(row["accuracy"]))
    means = {p: {m: statistics.fmean(v) for m, v in own.items()} for p, own in known.items()}
    whole = means.pop("whole")
    found = [
        f"{proxy} {spearmanr([own[m] for m in whole], list(whole.values()))[0]:.2f}"
        for proxy, own in means.items()
    ]
    return f"Spearman without {level} (n = {len(whole)}): {', '.join(found)}"


def main() -> None:
    """Distil, search, print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])  # type: ignore[union-attr]
    parser.add_argument("data")
    parser.add_argument("--like")
    parser.add_argument("--out", default="runs/nas")
    parser.add_argument("--val", type=float, default=0.1)
    parser.add_argument("--runs", nargs="+", help="run folders, instead of distilling")
    parser.add_argument("--ipc", type=int, default=10)
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--bank", type=int, default=200)
    parser.add_argument("--space", default="convnet720")
    parser.add_argument("--sample", type=int)
    parser.add_argument("--protocol", default="quick")
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--trials", type=int, default=1)
    parser.add_argument("--split", default="val")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--reference")
    parser.add_argument("--reference-updates", type=int, default=200)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--workers", type=int)
    parser.add_argument("--dry-run", action="store_true")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--without", metavar="LEVEL=VALUE", help="look at FILE's rows, do no more")
    arguments = parser.parse_args()
    if arguments.without:
        print(without(arguments.json.with_suffix(".csv"), arguments.without))
        return
    start = time.perf_counter()
    runs = arguments.runs or distil(arguments)
    distilled = time.perf_counter()
    folder = search(arguments, runs)
    if arguments.dry_run:
        return
    spent = {"distilling": distilled - start, "searching": time.perf_counter() - distilled}
    print((folder / "table.md").read_text("utf-8"))
    print(f"wall-clock seconds of this call: {spent}")
    if arguments.json:
        found = json.loads((folder / "findings.json").read_text("utf-8"))
        document = {"wall_seconds": spent, **found}
        arguments.json.write_text(json.dumps(document, indent=2) + "\n", "utf-8")
        shutil.copy(folder / "rows.csv", arguments.json.with_suffix(".csv"))


if __name__ == "__main__":
    main()

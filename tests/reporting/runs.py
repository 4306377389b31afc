"""Run folders made by hand, with names that must not become markup."""

import csv
import json
from dataclasses import replace

import torch

from distilset.card import Card
from distilset.data.normalise import Transform
from distilset.store import DistilledSet
from distilset.types import DatasetInfo

EVIL = '<script>document.title="hacked"</script>'
HEAD = (
    "run,network,norm,protocol,epochs,labels,augmentation,split,seed,steps,trial,accuracy,seconds"
)


def make_run(path, *, method="dm", ipc=2, steps=4, losses=True, **card):
    """Write a run of three classes without distilling anything."""
    facts = DatasetInfo("drawn", "drawn.npz", (0.5,) * 3, (0.2,) * 3, fingerprint="f1")
    if "dataset" in card:
        facts = replace(facts, **card.pop("dataset"))
    pixels = torch.linspace(0, 1, 3 * ipc * 3 * 64).reshape(3 * ipc, 3, 8, 8)
    card = {"classes": ("a", "b", "c"), "versions": {"torch": "2"}, **card}
    made = Card(
        kind="distilled", dataset=facts, method=method, ipc=ipc, seed=0, steps=steps,
        image=(3, 8, 8), seconds=2.0, **card,
    )  # fmt: skip
    labels = torch.arange(3).repeat_interleave(ipc)
    distilled = DistilledSet(pixels, labels, made, Transform(facts.mean, facts.std, None))
    distilled.save(path)
    if losses:
        lines = [{"step": s + 1, "loss": 9.0 / (s + 1), "seconds": 0.5 * (s + 1)} for s in range(4)]
        text = "".join(json.dumps(line) + "\n" for line in lines)
        (path / "metrics.jsonl").write_text(text + '{"step": 5, "lo')
    return path


def add_scores(run, accuracies, *, protocol="quick", steps=4, seed=0, network="convnet", **more):
    """Append rows to ``scores.csv`` as `evaluate` writes them."""
    path = run / "scores.csv"
    new = not path.exists()
    labels, split = more.get("labels", "hard"), more.get("split", "test")
    way = [run, network, "instance", protocol, 120, labels, "dsa", split, seed, steps]
    with path.open("a", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerows([HEAD.split(",")] if new else [])
        writer.writerows([*way, t, accuracy, 1.5] for t, accuracy in enumerate(accuracies))


def add_baseline(run, name, accuracies, *, ipc=2, protocol="quick"):
    row = {
        "run": f"baseline {name}", "method": name, "dataset": "drawn", "ipc": ipc, "images": 6,
        "network": "convnet", "norm": "instance", "protocol": protocol, "epochs": 120,
        "labels": "hard", "augmentation": "dsa", "split": "test", "accuracies": accuracies,
        "seconds": 3.0,
    }  # fmt: skip
    with (run / "baselines.jsonl").open("a") as file:
        file.write(json.dumps(row) + "\n")

"""What a search is asked for, checked as a whole before the first network is trained."""

from collections.abc import Sequence
from dataclasses import asdict, astuple, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from distilset.apps.cost import training_cost
from distilset.apps.findings import Proxy
from distilset.apps.fitting import Chosen, choose, member_costs
from distilset.apps.space import get_space
from distilset.apps.trainings import EARLY, WHOLE, Job, ProxySet, Work, passes
from distilset.apps.wish import Wish
from distilset.augment import AugmentConfig
from distilset.errors import ConfigError
from distilset.evaluation.baselines import baseline_sets
from distilset.evaluation.identity import digest_of, tensors_digest, transform_digest
from distilset.evaluation.matrix import Entry
from distilset.memory import memory_bytes
from distilset.models import code_digest, is_own, network_table
from distilset.selectors.base import check_request
from distilset.stated import data_table
from distilset.training.protocols import Protocol
from distilset.workers import BYTES


@dataclass(frozen=True, eq=False)
class Plan:
    """A search whose every question is settled."""

    wish: Wish
    space: str
    chosen: Chosen
    work: Work
    proxies: tuple[Proxy, ...]
    settings: dict[str, dict[str, Any]]

    @property
    def jobs(self) -> list[Job]:
        """Every training of the search, the dearest networks first, each with all of its own."""
        members = sorted(self.chosen.members, key=lambda m: self.work.costs[m.name], reverse=True)
        return [
            Job(member, proxy.name, trial)
            for member in members
            for proxy in self.proxies
            for trial in range(self.trials(proxy.name))
        ]

    def trials(self, proxy: str) -> int:
        """Return how often each network is trained on a proxy; on the whole data once."""
        return 1 if proxy == WHOLE else self.work.trials

    def cost(self, job: Job) -> float:
        """Estimate a job, in operations."""
        work = self.work
        scored = len(work.scored)
        if job.proxy == WHOLE and work.test is not None:
            scored += len(work.test)
        n = work.images_of(job.proxy)
        taken, updates = work.passes_of(job.proxy), work.protocol_of(job.proxy).total_updates(n)
        return training_cost(work.costs[job.member.name], taken, updates, scored)

    def cost_by_proxy(self) -> dict[str, float]:
        """Return the estimated operations of all trainings on each proxy."""
        costs = {proxy.name: 0.0 for proxy in self.proxies}
        for job in self.jobs:
            costs[job.proxy] += self.cost(job)
        return costs

    @property
    def workers(self) -> int:
        """How many processes train: on a CPU one for each thread, as far as memory allows."""
        wish, work = self.wish, self.work
        if wish.workers is not None:
            return min(wish.workers, len(self.chosen.members))
        if torch.device(work.settings.device).type != "cpu":
            return 1
        parts = [work.train, work.scored, *([] if work.test is None else [work.test])]
        each = BYTES + sum(part.images.numel() for part in parts)
        memory = memory_bytes()
        fit = len(self.chosen.members) if memory is None else memory // 2 // each
        threads = wish.threads or torch.get_num_threads()
        return max(1, min(threads, fit, len(self.chosen.members)))

    def sharing(self, workers: int) -> Work:
        """Return the work as each of several processes does it: with its share of the threads."""
        threads = self.wish.threads or torch.get_num_threads()
        return replace(self.work, threads=max(1, threads // max(1, workers)))

    def member_facts(self, job: Job) -> dict[str, Any]:
        """Return what of a member decides its whole-data accuracy."""
        member, spec = job.member, self.work.train.spec
        facts: dict[str, Any] = {"member": member.name}
        if is_own(member.network.name):
            from distilset.models import build_network

            classes = len(self.work.train.classes)
            facts["code"] = code_digest(build_network(member.network, spec, classes), spec)
        return facts

    @property
    def reference_facts(self) -> dict[str, Any]:
        """Return what whole-data accuracies hold for, as a reference file says it."""
        work = self.work
        return {
            "schedule": asdict(work.whole),
            "split": work.scored.role,
            "data": {"name": work.train.info.name, "fingerprint": work.train.info.fingerprint},
            "transform": transform_digest(work.transform),
            "augmentation": _augmentation(work),
            "seed": work.seed,
        }

    @property
    def cache_facts(self) -> dict[str, Any]:
        """Return all else that decides whole-data accuracies: the bytes, and how it is computed."""
        work = self.work
        settings = asdict(work.settings)
        del settings["together"]
        return self.reference_facts | {
            "train": work.train.digest,
            "scored": work.scored.digest,
            "test": None if work.test is None else work.test.digest,
            "settings": settings,
            "torch": torch.__version__,
        }


def plan_search(entries: Sequence[Entry], wish: Wish) -> Plan:
    """Check everything that is asked for, choose the networks and make the proxy sets.

    Raises:
        ConfigError: an unknown space, too few networks, no validation part, runs of several data.
        DataError: data that do not fit a run.
    """
    _check_entries(entries, wish)
    first, request = entries[0], wish.request
    splits, scored = first.splits, first.part(wish.split)
    own = request.networks_of(first.distilled)[0] if wish.space == "hyper" else None
    named = {"name": "convnet"} if own is None else _stated(own)
    if own is None and wish.network is not None:
        named = network_table(wish.network)
    space = get_space(wish.space, named)
    chosen = choose(space, scored.spec, len(scored.classes), sample=wish.sample, seed=wish.seed)
    costs = member_costs(chosen.members, scored.spec, len(scored.classes))
    protocol = request.protocol(wish.protocol)
    proxies, sets = _proxies(entries, wish)
    early = _early(wish, protocol, sets)
    if EARLY in wish.baselines:
        proxies.append(Proxy(EARLY, "early", EARLY, None, len(splits.train)))
    proxies.append(Proxy(WHOLE, "whole", WHOLE, None, len(splits.train)))
    test = splits.test if wish.split == "val" else scored
    work = Work(
        splits.train, scored, test, first.distilled.transform, tuple(sets), protocol, early,
        wish.whole, wish.trials, wish.seed, AugmentConfig(), wish.settings, costs,
    )  # fmt: skip
    settings = _settings(wish, space.name, chosen, work, sets)
    return Plan(wish, space.name, chosen, work, tuple(proxies), settings)


def _check_entries(entries: Sequence[Entry], wish: Wish) -> None:
    """Refuse runs that cannot be compared, or were made from what networks are scored on."""
    if not entries:
        raise ConfigError("a search needs at least one run folder; got none")
    first = entries[0]
    for entry in entries:
        entry.part(wish.split)
        card, info = entry.distilled.card, entry.splits.info
        carved = (card.dataset.val_fraction, card.dataset.split_seed)
        if wish.split == "val" and carved != (info.val_fraction, info.split_seed):
            raise ConfigError(
                f"{entry.name} was made with --val {carved[0]:g} --split-seed {carved[1]} and the "
                f"data are split with {info.val_fraction:g} and {info.split_seed}: it may hold "
                "images of the validation part"
            )
        same = entry.splits.info.fingerprint == first.splits.info.fingerprint
        if not same or card.zca != first.distilled.card.zca:
            raise ConfigError(
                f"the runs of a search must share their data, split and whitening; {entry.name} "
                f"and {first.name} do not"
            )
        if set(wish.baselines) - {EARLY}:
            check_request(entry.splits.train, card.ipc)


def _proxies(entries: Sequence[Entry], wish: Wish) -> tuple[list[Proxy], list[ProxySet]]:
    """Return the runs, and selections of as many images, as tables name them and as sets."""
    short = [Path(entry.name).name for entry in entries]
    names = short if len(set(short)) == len(short) else [entry.name for entry in entries]
    proxies, sets = [], []
    for name, entry in zip(names, entries, strict=True):
        card = entry.distilled.card
        proxies.append(
            Proxy(name, card.kind, card.label, card.ipc, len(entry.distilled), card.seconds)
        )
        sets.append(ProxySet(name, (entry.distilled.tensors(),)))
    transform, train = entries[0].distilled.transform, entries[0].splits.train
    for method in wish.baselines:
        if method == EARLY:
            continue
        for ipc in dict.fromkeys(entry.distilled.card.ipc for entry in entries):
            rows = baseline_sets(method, train, ipc, wish.trials, wish.seed)
            name = f"baseline {method}-{ipc}"
            sets.append(
                ProxySet(
                    name,
                    tuple((transform.apply(train.images[r]), train.labels[r]) for r in rows),
                )
            )
            proxies.append(Proxy(name, "selection", method, ipc, sets[-1].n))
    if len({proxy.name for proxy in proxies}) < len(proxies):
        raise ConfigError(f"a run is named twice: {', '.join(proxy.name for proxy in proxies)}")
    return proxies, sets


def _early(wish: Wish, protocol: Protocol, sets: Sequence[ProxySet]) -> Protocol:
    """Return the whole-data schedule, for as many images as the largest proxy takes."""
    most = max(passes(protocol, one.n) for one in sets)
    return replace(wish.whole, name=EARLY, updates=max(1, round(most / wish.whole.batch)))


def _settings(
    wish: Wish, space: str, chosen: Chosen, work: Work, sets: Sequence[ProxySet]
) -> dict[str, dict[str, Any]]:
    """Return all that decides the rows, for the folder."""
    early = work.early.updates if EARLY in wish.baselines else None
    return {
        "search": {
            "space": space,
            "networks": len(chosen.members),
            "left_out": len(chosen.left_out),
            "members": digest_of({"names": [member.name for member in chosen.members]}),
            "protocol": str(astuple(work.protocol)),
            "split": work.scored.role,
            "trials": wish.trials,
            "seed": wish.seed,
            "whole": str(astuple(work.whole)),
            "early_updates": early,
        },
        "data": data_table(work.train.info) | {"fingerprint": work.train.info.fingerprint},
        "proxies": {
            one.name: digest_of({"sets": [tensors_digest(*pair) for pair in one.sets]})
            for one in sets
        },
        "engine": {"device": work.settings.device, "precision": work.settings.precision},
    }


def _augmentation(work: Work) -> dict[str, Any] | None:
    """Return what DSA does where a member says nothing else."""
    if not work.whole.augment:
        return None
    mirror = work.scored.info.mirror
    kept = work.augmentation if mirror else work.augmentation.without_flip()
    return asdict(kept)  # type: ignore[call-overload]


def _stated(network: Any) -> dict[str, Any]:
    return {k: v for k, v in asdict(network).items() if v is not None and k != "pool"}

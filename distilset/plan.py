"""From settings and data to a run that is ready to start."""

import platform
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import distilset
from distilset.compilation import resolve_compile
from distilset.config import RunConfig
from distilset.data.normalise import Transform, fit_transform
from distilset.engine import EngineSettings
from distilset.errors import ConfigError
from distilset.estimates import estimated_bytes, most, worker_bytes
from distilset.experts import Experts
from distilset.formation import check_factor
from distilset.guard import rate_of
from distilset.hardware import default_chunk, default_workers, resolve_device, resolve_precision
from distilset.initial import check_init
from distilset.methods import Method, get_method
from distilset.methods.base import Episodes
from distilset.models import build_network, has_batch_norm, pool_of, settled
from distilset.optimise import Record, State, descend, with_rates
from distilset.parallel import group
from distilset.parallel.classes import check_spread, share_of
from distilset.rng import Rng
from distilset.schooling import ExpertsConfig
from distilset.task import Task
from distilset.types import ImageSet

CHECKPOINT_SECONDS = 60


@dataclass(frozen=True)
class Plan:
    """A run that is ready to start: concrete settings, the task, the method.

    ``reasons`` says why a setting that was left open was chosen. ``first_chunk`` is the chunk that
    the run began with, if memory ran out with it.
    """

    config: RunConfig
    task: Task
    method: Method
    reasons: Mapping[str, str] = field(default_factory=dict)
    first_chunk: int | None = None

    @property
    def settings(self) -> dict[str, dict[str, Any]]:
        """The content of ``run.toml``: all settings, and in ``[made]`` what made the run."""
        first = {} if self.first_chunk is None else {"first_chunk": self.first_chunk}
        return {**self.config.tables(), "made": {**made(self.task.train), **first}}

    @property
    def images_per_step(self) -> int:
        """How many synthetic and real images networks see in one step."""
        task = self.task
        told: int | None = getattr(self.method, "images_per_step", None)
        if told is not None:
            return told
        return task.classes * task.decoded_ipc + sum(
            min(n, task.batch_real) for n in task.train.counts
        )

    @property
    def bytes(self) -> int:
        """The estimated peak of memory."""
        method, optimizer = self.method, self.config.distill.optimizer
        real = getattr(method, "draws_real", True)
        twice = getattr(method, "differentiates_twice", False)
        held: int = getattr(method, "held_bytes", 0)
        return estimated_bytes(self.task, optimizer, real=real, twice=twice) + held

    def start(self, images: Tensor, moments: Mapping[str, Tensor] | None = None) -> State:
        """Put images and moments on the run's device; of several processes, each its own."""
        own = {name: self._own(moment) for name, moment in (moments or {}).items()}
        return State(self._own(images), own)

    def _own(self, images: Tensor) -> Tensor:
        task = self.task
        own = images if task.share is None else task.share.own(images, task.ipc)
        return own.to(task.settings.device)

    def descend(self, state: State, steps: int, method: Episodes | None = None) -> Iterator[Record]:
        """Descend until ``steps`` episodes are done, as the settings say; see `descend`.

        ``method`` takes the place of the plan's own.
        """
        distill = self.config.distill
        return descend(
            state,
            method or self.method,
            steps=steps,
            image_lr=rate_of(distill.image_lr or 1.0, state),
            momentum=distill.momentum or 0.0,
            optimizer=distill.optimizer,
            falls_over=distill.steps if distill.schedule == "cosine" else None,
        )


def made(train: ImageSet) -> dict[str, Any]:
    """Return the provenance that decides bytes beside the settings."""
    return {"fingerprint": train.info.fingerprint or train.digest, **versions()}


def versions() -> dict[str, str]:
    """Return the versions of what computes."""
    return {
        "distilset": distilset.__version__,
        "torch": torch.__version__,
        "numpy": np.__version__,
        "python": platform.python_version(),
    }


def make_plan(config: RunConfig, train: ImageSet, transform: Transform | None = None) -> Plan:
    """Resolve every open setting against the data and the machine, and build task and method.

    ``transform`` takes the place of the one fitted on ``train``, for a part of a larger whole.

    Raises:
        ConfigError: if the settings do not fit the data, the machine, or each other.
    """
    check_train(train)
    check_factor(config.distill.factor, train.spec)
    check_init(config.distill.init, train, config.distill.ipc, config.distill.factor)
    config, reasons = group.lead(lambda: resolve(config, train))
    transform = transform or fit_transform(train, zca=config.data.zca)
    task = make_task(config, train, transform)
    config, task = with_workers(config, task)
    method = get_method(config.method_name)(config.method, task)
    check_spread(config.method_name, method, task)
    if task.bank and getattr(method, "bank", None) is None:
        raise ConfigError(f"method {config.method_name} cannot use a bank; leave distill.bank at 0")
    if task.factor > 1 and not getattr(method, "decodes", False):
        raise ConfigError(
            f"method {config.method_name} does not decode stored images; leave distill.factor at 1 "
            "(docs/adding-a-method.md says what it takes)"
        )
    return Plan(config, task, method, reasons)


def check_train(train: ImageSet) -> None:
    """Refuse anything but a training part with images in every class."""
    if not isinstance(train, ImageSet):
        raise ConfigError(f"give the train part of load_data; got {type(train).__name__}")
    if train.role != "train":
        raise ConfigError(f"only a train split may be distilled; got the {train.role} split")
    empty = [name for name, count in zip(train.classes, train.counts, strict=True) if count == 0]
    if empty:
        raise ConfigError(f"class {empty[0]!r} has no training images; every class needs one")


def resolve(config: RunConfig, train: ImageSet) -> tuple[RunConfig, dict[str, str]]:
    """Replace every open setting by a concrete one; return the reasons for the choices."""
    device = resolve_device(config.engine.device)
    updates = config.distill.steps * updates_per_episode(config)
    compiled, why = resolve_compile(config.engine.compile, updates, device)
    precision, reason = resolve_precision(config.engine.precision, device, compiled=compiled)
    engine = replace(
        config.engine,
        device=device,
        precision=precision,
        compile="on" if compiled else "off",
        threads=config.engine.threads or torch.get_num_threads(),
        chunk=config.engine.chunk or default_chunk(train.spec, device),
    )
    bank_seed = config.distill.bank_seed
    if bank_seed is None and config.distill.bank:
        bank_seed = config.distill.seed
    experts = config.experts
    if experts.number and experts.seed is None:
        experts = replace(experts, seed=config.distill.seed)
    augmentation, reasons = config.augmentation, {"precision": reason, "compile": why}
    if not train.info.mirror and "flip" in augmentation.operations:
        augmentation = augmentation.without_flip()
        reasons["augmentation"] = "no flip: mirrored images of this data change their class"
    resolved = replace(
        config,
        engine=engine,
        network=settled(config.network, train.spec),
        augmentation=augmentation,
        experts=experts,
        distill=replace(with_rates(config.distill), bank_seed=bank_seed),
    )
    return resolved, reasons


def make_task(config: RunConfig, train: ImageSet, transform: Transform) -> Task:
    """Build what the method works with."""
    engine = config.engine
    first, *others = (
        build_network(one, train.spec, len(train.classes))
        .to(engine.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        .requires_grad_(False)
        .train(config.experts.batch_norm == "batch")
        for one in pool_of(config.network)
    )
    _check_statistics(config.experts, (first, *others))
    task = Task(
        train=train,
        transform=transform.to(engine.device),
        augmentation=config.augmentation,
        network=first,
        pool=tuple(others),
        rng=Rng(config.distill.seed),
        ipc=config.distill.ipc,
        factor=config.distill.factor,
        batch_real=config.distill.batch_real,
        bank=config.distill.bank,
        bank_seed=config.distill.bank_seed or 0,
        steps=config.distill.steps,
        settings=EngineSettings(
            device=engine.device,
            precision="bf16" if engine.precision == "bf16" else "fp32",
            chunk=engine.chunk or 1,
            compile=engine.compile == "on",
        ),
    )
    return replace(task, share=share_of(task), experts=_experts(config, task))


def _check_statistics(experts: ExpertsConfig, networks: Sequence[nn.Module]) -> None:
    """Refuse to normalise by statistics that no network has learnt."""
    if experts.batch_norm == "batch":
        return
    if not experts.number:
        raise ConfigError(
            "experts.batch_norm=running needs networks that were trained: give --experts 1 or more"
        )
    if not any(map(has_batch_norm, networks)):
        raise ConfigError("experts.batch_norm=running needs a network with BatchNorm: --norm batch")


def _experts(config: RunConfig, task: Task) -> tuple[Experts, ...]:
    """Return the experts of every network of a task, if it is to have any."""
    if not config.experts.number:
        return ()
    number = config.engine.threads or torch.get_num_threads()
    known = (task.train, task.transform.to("cpu"), task.augmentation, task.training, number)
    return tuple(Experts(config.experts, one, *known) for one in task.networks)


def with_workers(config: RunConfig, task: Task) -> tuple[RunConfig, Task]:
    """Fix how many processes build the task's bank, if it has one, and the threads of each.

    The number never depends on how many targets are asked for or missing: the threads are part of
    the bank's name, and a later run must find it.
    """
    engine = config.engine
    if not task.bank:
        return config, task
    total = engine.threads or torch.get_num_threads()
    workers = engine.bank_workers or default_workers(total, engine.device, most(worker_bytes, task))
    if workers > 1 and torch.device(engine.device).type != "cpu":
        raise ConfigError(f"only a CPU takes more than 1 in engine.bank_workers; got {workers}")
    if workers > total:
        allowed = f"engine.bank_workers may be 1 to {total} (engine.threads)"
        raise ConfigError(f"every process needs a thread: {allowed}; got {workers}")
    task = replace(task, bank_workers=workers, bank_threads=total // workers)
    return replace(config, engine=replace(engine, bank_workers=workers)), task


def updates_per_episode(config: RunConfig) -> int:
    """Return the image updates of an episode, as a method's settings tell, else 1."""
    return getattr(config.method, "updates_per_episode", 1)


def with_checkpoints(plan: Plan, seconds_per_step: float) -> Plan:
    """Fix the steps between checkpoints, at about a minute's worth, unless they are given."""
    if plan.config.engine.checkpoint_every is not None:
        return plan
    every = max(1, round(CHECKPOINT_SECONDS / max(seconds_per_step, 1e-6)))
    engine = replace(plan.config.engine, checkpoint_every=every)
    return replace(plan, config=replace(plan.config, engine=engine))

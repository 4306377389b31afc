"""What is told of a run before it starts."""

from distilset.formation import cut_into
from distilset.optimise import steps_told
from distilset.plan import Plan
from distilset.task import Task
from distilset.types import Splits


def plan_rows(plan: Plan, splits: Splits) -> list[tuple[str, str]]:
    """Return what is told before a run starts, as name and text."""
    config, task, info = plan.config, plan.task, splits.info
    distill, engine = config.distill, config.engine
    mapped = ", read from a memory map" if task.train.mapped else ""
    test = "no test part" if splits.test is None else f"{len(splits.test)} test"
    carved = f", carved by split seed {info.split_seed}" if info.test_part == "carved" else ""
    val = "" if splits.val is None else f", {len(splits.val)} validation"
    whitened = "normalised, whitened (ZCA)" if config.data.zca else "normalised"
    operations = ", ".join(config.augmentation.operations) or "none"
    if "augmentation" in plan.reasons:
        operations += f" ({plan.reasons['augmentation']})"
    return [
        ("data", f"{info.name}: {len(task.train)} train{val}, {test}{carved}{mapped}"),
        ("images", f"{task.train.spec}, {task.classes} classes, {whitened}"),
        ("method", config.method_name),
        ("network", str(config.network)),
        *([("weights", str(config.experts))] if config.experts.number else []),
        (
            "synthetic",
            f"{task.classes * task.ipc} images, {task.ipc} per class, from {distill.init}"
            + cut_into(task.factor),
        ),
        *(_real(task) if getattr(plan.method, "draws_real", True) else []),
        ("steps", steps_told(distill)),
        ("augmentation", operations),
        ("device", f"{engine.device}, {engine.threads} threads{task.share or ''}"),
        ("precision", f"{engine.precision}: {plan.reasons['precision']}"),
        ("compiled", f"{engine.compile}: {plan.reasons['compile']}"),
        ("seed", str(distill.seed)),
    ]


def _real(task: Task) -> list[tuple[str, str]]:
    return [
        ("real batch", f"{task.batch_real} per class and step"),
        ("targets", f"a bank of {task.bank}" if task.bank else "fresh ones at every step"),
    ]

"""Settings of a run: layers of nested tables in, one frozen, checked `RunConfig` out.

What counts: flag over ``--set`` over preset over the method's default. Every problem is reported at
once, by its full name.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Annotated, Any, Literal

import tomli_w
from pydantic import ConfigDict, Field, ValidationError
from pydantic.dataclasses import dataclass as validated

from distilset.augment import AugmentConfig
from distilset.errors import ConfigError, unknown_name
from distilset.methods import get_method
from distilset.models import NetworkConfig
from distilset.schooling import ExpertsConfig

STRICT = ConfigDict(strict=True, extra="forbid")
Tables = Mapping[str, Mapping[str, Any]]
Optimizer = Literal["sgd", "adam"]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]


@validated(frozen=True, config=STRICT)
class DataConfig:
    """Which data; ``zca`` whitens the normalised images (CIFAR, in both papers).

    ``mapped`` says whether they are decoded to a file of the cache and read from there; ``auto``
    does so where they are large. It changes no image.
    """

    source: str
    resolution: Annotated[int, Field(ge=4, le=4096)] | None = None
    like: str | None = None
    val: Annotated[float, Field(ge=0, lt=1)] = 0.0
    split_seed: Annotated[int, Field(ge=0)] = 0
    zca: bool = False
    mapped: Literal["auto", "on", "off"] = "auto"

    @property
    def map_or_rule(self) -> bool | None:
        """``mapped`` as `load_data` takes it."""
        return {"on": True, "off": False}.get(self.mapped)


@validated(frozen=True, config=STRICT)
class DistillConfig:
    """How much and for how long.

    ``factor`` cuts each stored image into as many by as many pieces, and each is enlarged to an
    image that networks see; ``ipc`` counts stored images. ``init`` is a selector's name, ``noise``,
    or the folder of another run. ``image_lr`` is meant in normalised space: None is 1.0
    up to 50 images per class and 10.0 above (DataDAM's table) for ``sgd``, and 0.02 for ``adam``
    (Kingma and Ba, ICLR 2015). ``momentum``, of Adam the first beta, is 0.5 and 0.9 where it is
    None. Under the ``schedule`` ``cosine`` the image learning rate falls to 0 over ``steps``.
    ``batch_real`` counts images per class and step. ``bank`` is the number of targets that are
    computed once and used again and again; 0, as in the papers, makes a fresh one for every step.
    ``bank_seed`` None is ``seed``: runs with the same one share a bank. ``guard_every`` is the
    number of steps between the states that a run goes back to when a loss or an image becomes
    infinite or not a number.
    """

    ipc: Annotated[int, Field(ge=1)] = 10
    factor: Annotated[int, Field(ge=1)] = 1
    steps: Annotated[int, Field(ge=0)] = 1000
    init: str = "random"
    batch_real: Annotated[int, Field(ge=1)] = 64
    image_lr: Positive | None = None
    momentum: Annotated[float, Field(ge=0, lt=1)] | None = None
    optimizer: Optimizer = "sgd"
    schedule: Literal["constant", "cosine"] = "constant"
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    bank: Annotated[int, Field(ge=0)] = 0
    bank_seed: Annotated[int, Field(ge=0, lt=2**63)] | None = None
    guard_every: Annotated[int, Field(ge=1)] = 100


@validated(frozen=True, config=STRICT)
class EngineConfig:
    """With what it is computed; ``auto`` values are resolved once and written into the run.

    ``chunk``, the images in one forward pass, is by default what fits the processor's cache (32 of
    32x32 pixels); a run halves it when memory runs out. ``threads`` None is as many as PyTorch
    takes; ``checkpoint_every`` None is about a minute's worth of steps. ``bank_workers`` is the
    most processes that build a bank side by side, which share the threads; None is one for every
    two threads of a CPU, if memory allows, and 1 on a GPU.
    """

    device: str = "auto"
    precision: Literal["auto", "bf16", "fp32"] = "auto"
    compile: Literal["auto", "on", "off"] = "auto"
    chunk: Annotated[int, Field(ge=1)] | None = None
    threads: Annotated[int, Field(ge=1)] | None = None
    checkpoint_every: Annotated[int, Field(ge=1)] | None = None
    bank_workers: Annotated[int, Field(ge=1)] | None = None


SECTIONS: Mapping[str, type] = {
    "data": DataConfig,
    "distill": DistillConfig,
    "network": NetworkConfig,
    "augmentation": AugmentConfig,
    "experts": ExpertsConfig,
    "engine": EngineConfig,
}


@dataclass(frozen=True)
class RunConfig:
    """Everything that decides a run. ``method`` has the method's own settings."""

    data: DataConfig
    distill: DistillConfig
    network: NetworkConfig
    augmentation: AugmentConfig
    experts: ExpertsConfig
    engine: EngineConfig
    method_name: str
    method: Any

    def tables(self) -> dict[str, dict[str, Any]]:
        """Return nested tables, without the settings that are None (TOML has no null)."""
        tables = {name: _plain(getattr(self, name)) for name in SECTIONS}
        tables["method"] = {"name": self.method_name, **_plain(self.method)}
        return tables


def _plain(section: Any) -> dict[str, Any]:
    values = asdict(section)
    return {
        key: list(value) if isinstance(value, tuple) else value
        for key, value in values.items()
        if value is not None
    }


def build(*layers: Mapping[str, Any]) -> RunConfig:
    """Merge layers of tables, later ones over earlier ones, over the method's defaults; check all.

    Raises:
        ConfigError: naming every unknown section or key and every bad value.
    """
    stated = merge(*layers)
    name = stated.get("method", {}).get("name", "atom")
    problems: list[str] = []
    method = _find_method(name, problems)
    tables = merge({} if method is None else method.defaults, stated)
    own = {key: value for key, value in tables.pop("method", {}).items() if key != "name"}
    problems += [
        f"unknown section [{key}]; allowed are {', '.join([*SECTIONS, 'method'])}"
        for key in tables
        if key not in SECTIONS
    ]
    made = {key: _check(cls, tables.get(key, {}), key, problems) for key, cls in SECTIONS.items()}
    if method is not None:
        made["method"] = _check(method.Config, own, "method", problems)
    if problems:
        raise ConfigError("; ".join(problems))
    return RunConfig(method_name=name, **made)


def data_config(table: Mapping[str, Any]) -> DataConfig:
    """Check the settings of data alone.

    Raises:
        ConfigError: naming every bad value.
    """
    problems: list[str] = []
    config = _check(DataConfig, table, "data", problems)
    if problems:
        raise ConfigError("; ".join(problems))
    return config


def _find_method(name: Any, problems: list[str]) -> Any:
    try:
        if isinstance(name, str):
            return get_method(name)
        problems.append(f"method.name must be a string; got {name!r}")
    except ConfigError as error:
        problems.append(str(error))
    return None


def _check(cls: type, values: Mapping[str, Any], section: str, problems: list[str]) -> Any:
    if not isinstance(values, Mapping):
        problems.append(f"[{section}] must be a table; got {values!r}")
        return None
    known = [f.name for f in fields(cls)]
    for key in values:
        if key not in known:
            problems.append(str(unknown_name(f"setting of [{section}]", str(key), known)))
    try:
        return cls(**{key: value for key, value in values.items() if key in known})
    except ValidationError as error:
        for problem in error.errors():
            where = ".".join([section, *(str(part) for part in problem["loc"][:1])])
            message = problem["msg"].removeprefix("Value error, ")
            got = "" if problem["type"] == "missing" else f"; got {problem['input']!r}"
            problems.append(f"{where}: {message}{got}")
        return None


def merge(*layers: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Merge tables key by key; later layers win."""
    merged: dict[str, dict[str, Any]] = {}
    for layer in layers:
        for section, values in layer.items():
            if not isinstance(values, Mapping):
                raise ConfigError(f"[{section}] must be a table of settings; got {values!r}")
            merged.setdefault(section, {}).update(values)
    return merged


def to_toml(tables: Tables) -> str:
    """Write tables as TOML."""
    return tomli_w.dumps({key: dict(value) for key, value in tables.items()})


def differences(old: Tables, new: Tables, ignore: Sequence[str] = ()) -> list[str]:
    """List the settings stated in ``new`` that differ from ``old``: ``section.key: old -> new``."""
    return [
        f"{section}.{key}: {old.get(section, {}).get(key)!r} -> {value!r}"
        for section, values in new.items()
        for key, value in values.items()
        if f"{section}.{key}" not in ignore and old.get(section, {}).get(key) != value
    ]

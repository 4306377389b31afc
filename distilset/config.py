"""Settings of a run: layers of nested tables in, one frozen, checked `RunConfig` out.

What counts: flag over ``--set`` over preset over the method's default. Every problem is reported at
once, by its full name.
"""

import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal

import tomli_w
from pydantic import ConfigDict, Field, ValidationError
from pydantic.dataclasses import dataclass as validated

from distilset.augment import AugmentConfig
from distilset.errors import ConfigError, unknown_name
from distilset.methods import get_method
from distilset.models import NetworkConfig, network_table

STRICT = ConfigDict(strict=True, extra="forbid")
Tables = Mapping[str, Mapping[str, Any]]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]


@validated(frozen=True, config=STRICT)
class DataConfig:
    """Which data; ``zca`` whitens the normalised images (CIFAR, in both papers)."""

    source: str
    resolution: Annotated[int, Field(ge=4, le=4096)] | None = None
    like: str | None = None
    val: Annotated[float, Field(ge=0, lt=1)] = 0.0
    split_seed: Annotated[int, Field(ge=0)] = 0
    zca: bool = False


@validated(frozen=True, config=STRICT)
class DistillConfig:
    """How much and for how long.

    ``init`` is a selector's name, ``noise``, or the folder of another run. ``image_lr`` None is 1.0
    up to 50 images per class and 10.0 above (DataDAM's table); it is meant in normalised space.
    ``batch_real`` counts images per class and step.
    """

    ipc: Annotated[int, Field(ge=1)] = 10
    steps: Annotated[int, Field(ge=0)] = 1000
    init: str = "random"
    batch_real: Annotated[int, Field(ge=1)] = 64
    image_lr: Positive | None = None
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.5
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0


@validated(frozen=True, config=STRICT)
class EngineConfig:
    """With what it is computed; ``auto`` values are resolved once and written into the run.

    ``chunk``, the images in one forward pass, is by default what fits the processor's cache (32 of
    32x32 pixels). ``threads`` None is as many as PyTorch takes; ``checkpoint_every`` None is about
    a minute's worth of steps.
    """

    device: str = "auto"
    precision: Literal["auto", "bf16", "fp32"] = "auto"
    compile: Literal["auto", "on", "off"] = "auto"
    chunk: Annotated[int, Field(ge=1)] | None = None
    threads: Annotated[int, Field(ge=1)] | None = None
    checkpoint_every: Annotated[int, Field(ge=1)] | None = None


SECTIONS: Mapping[str, type] = {
    "data": DataConfig,
    "distill": DistillConfig,
    "network": NetworkConfig,
    "augmentation": AugmentConfig,
    "engine": EngineConfig,
}


@dataclass(frozen=True)
class RunConfig:
    """Everything that decides a run. ``method`` has the method's own settings."""

    data: DataConfig
    distill: DistillConfig
    network: NetworkConfig
    augmentation: AugmentConfig
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


def build(*layers: Tables) -> RunConfig:
    """Merge layers of tables, later ones over earlier ones, over the method's defaults; check all.

    Raises:
        ConfigError: naming every unknown section or key and every bad value.
    """
    stated = merge(*layers)
    name = stated.get("method", {}).get("name", "atom")
    if not isinstance(name, str):
        raise ConfigError(f"method.name must be a string; got {name!r}")
    method = get_method(name)
    tables = merge(method.defaults, stated)
    own = {key: value for key, value in tables.pop("method", {}).items() if key != "name"}
    problems = [
        f"unknown section [{key}]; allowed are {', '.join([*SECTIONS, 'method'])}"
        for key in tables
        if key not in SECTIONS
    ]
    made = {key: _check(cls, tables.get(key, {}), key, problems) for key, cls in SECTIONS.items()}
    made["method"] = _check(method.Config, own, "method", problems)
    if problems:
        raise ConfigError("; ".join(problems))
    return RunConfig(method_name=name, **made)


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
            problems.append(f"{where}: {message}; got {problem['input']!r}")
        return None


def merge(*layers: Tables) -> dict[str, dict[str, Any]]:
    """Merge tables key by key; later layers win."""
    merged: dict[str, dict[str, Any]] = {}
    for layer in layers:
        for section, values in layer.items():
            if not isinstance(values, Mapping):
                raise ConfigError(f"[{section}] must be a table of settings; got {values!r}")
            merged.setdefault(section, {}).update(values)
    return merged


def parse_settings(settings: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Read ``section.key=value`` settings; values are TOML, bare words are strings."""
    tables: dict[str, dict[str, Any]] = {}
    for setting in settings:
        path, equals, text = setting.partition("=")
        section, dot, key = path.strip().partition(".")
        if not (equals and dot and section and key):
            raise ConfigError(
                f"--set takes section.key=value, e.g. method.power=1; got {setting!r}"
            )
        tables.setdefault(section, {})[key] = _toml_value(text.strip())
    return tables


FLAGS: Mapping[str, str] = {
    "resolution": "data.resolution",
    "like": "data.like",
    "val": "data.val",
    "split_seed": "data.split_seed",
    "zca": "data.zca",
    "method": "method.name",
    "ipc": "distill.ipc",
    "steps": "distill.steps",
    "init": "distill.init",
    "batch_real": "distill.batch_real",
    "image_lr": "distill.image_lr",
    "seed": "distill.seed",
    "norm": "network.norm",
    "device": "engine.device",
    "precision": "engine.precision",
    "compile": "engine.compile",
    "threads": "engine.threads",
    "checkpoint_every": "engine.checkpoint_every",
}
"""Short names of settings: the command line's flags and Python's keyword arguments."""


def from_flags(flags: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Turn short names into tables; those that are None were not given and state nothing."""
    tables: dict[str, dict[str, Any]] = {}
    for flag, value in flags.items():
        if value is None:
            continue
        if flag == "network":
            tables.setdefault("network", {}).update(network_table(value))
        elif flag in FLAGS:
            section, _, key = FLAGS[flag].partition(".")
            tables.setdefault(section, {})[key] = value
        else:
            raise unknown_name("option", flag, [*FLAGS, "network"])
    return tables


def _toml_value(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def preset_names() -> list[str]:
    """Return the names of the presets inside the package."""
    folder = resources.files("distilset") / "presets"
    return sorted(p.name.removesuffix(".toml") for p in folder.iterdir() if p.name[-5:] == ".toml")


def preset_title(name: str) -> str:
    """Return the one-line description of a preset inside the package."""
    text = (resources.files("distilset") / "presets" / f"{name}.toml").read_text("utf-8")
    return str(tomllib.loads(text).get("title", ""))


def load_preset(name: str) -> dict[str, dict[str, Any]]:
    """Read a preset by name, or any TOML file of settings (a run's ``run.toml`` too) by path.

    A file may not name code to import: only the command line and Python may.
    """
    if name in preset_names():
        text = (resources.files("distilset") / "presets" / f"{name}.toml").read_text("utf-8")
        return parse_toml(text, f"preset {name}")
    path = Path(name)
    if path.suffix != ".toml" or not path.is_file():
        raise unknown_name("preset", name, [*preset_names(), "FILE.toml"])
    return read_toml(path)


def read_toml(path: Path) -> dict[str, dict[str, Any]]:
    """Read a TOML file of settings; its ``[made]`` table, the provenance of a run, is dropped."""
    try:
        text = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} cannot be read as TOML: {error}") from None
    return parse_toml(text, str(path))


def parse_toml(text: str, origin: str) -> dict[str, dict[str, Any]]:
    """Parse a TOML document of settings."""
    try:
        tables = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{origin} is not valid TOML: {error}") from None
    tables.pop("made", None)
    tables.pop("title", None)
    tables.pop("source", None)
    tables = merge(tables)
    if ":" in str(tables.get("method", {}).get("name", "")):
        raise ConfigError(
            f"{origin} names code to import ({tables['method']['name']!r}), which a file may not; "
            "name it with --method, and keep the file for the other settings"
        )
    return tables


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

"""What is stated for a run, and where: presets and other TOML files, ``--set``, flags.

Each gives nested tables of settings; `config` merges and checks them.
"""

import tomllib
from collections.abc import Iterable, Mapping
from importlib import resources
from pathlib import Path
from typing import Any

from distilset import untrusted
from distilset.config import Tables, merge
from distilset.data.known import KNOWN
from distilset.errors import ConfigError, unknown_name
from distilset.files import expanded
from distilset.models import is_own, names_code, network_table, split
from distilset.types import DatasetInfo


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
    "mapped": "data.mapped",
    "method": "method.name",
    "ipc": "distill.ipc",
    "factor": "distill.factor",
    "steps": "distill.steps",
    "init": "distill.init",
    "batch_real": "distill.batch_real",
    "image_lr": "distill.image_lr",
    "optimizer": "distill.optimizer",
    "schedule": "distill.schedule",
    "seed": "distill.seed",
    "bank": "distill.bank",
    "bank_seed": "distill.bank_seed",
    "experts": "experts.number",
    "norm": "network.norm",
    "device": "engine.device",
    "precision": "engine.precision",
    "compile": "engine.compile",
    "threads": "engine.threads",
    "checkpoint_every": "engine.checkpoint_every",
    "bank_workers": "engine.bank_workers",
}
"""Short names of settings: the command line's flags and Python's keyword arguments."""


def from_flags(flags: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Turn short names into tables; those that are None were not given and state nothing."""
    tables: dict[str, dict[str, Any]] = {}
    for flag, value in flags.items():
        if value is None:
            continue
        if flag == "network":
            tables.setdefault("network", {}).update({"pool": [], **network_table(value)})
        elif flag in FLAGS:
            section, _, key = FLAGS[flag].partition(".")
            switch = flag == "mapped" and isinstance(value, bool)
            tables.setdefault(section, {})[key] = ("off", "on")[value] if switch else value
        else:
            raise unknown_name("option", flag, [*FLAGS, "network"])
    return tables


def _toml_value(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except (ValueError, RecursionError):
        return text


def preset_names() -> list[str]:
    """Return the names of the presets inside the package."""
    folder = resources.files("distilset") / "presets"
    return sorted(p.name.removesuffix(".toml") for p in folder.iterdir() if p.name[-5:] == ".toml")


def preset_title(name: str) -> str:
    """Return the one-line description of a preset inside the package."""
    return _about(name, "title")


def preset_found(name: str) -> str:
    """Return what we measured of a preset's settings (docs/reproduction.md); nothing of most."""
    return _about(name, "found")


def _about(name: str, what: str) -> str:
    text = (resources.files("distilset") / "presets" / f"{name}.toml").read_text("utf-8")
    return str(tomllib.loads(text).get(what, ""))


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
        text = untrusted.read_text(path, untrusted.MOST_TOML)
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path} cannot be read as TOML: {error}") from None
    return parse_toml(text, str(path))


def parse_toml(text: str, origin: str) -> dict[str, dict[str, Any]]:
    """Parse a TOML document of settings."""
    try:
        tables = untrusted.parse_toml(text)
    except ValueError as error:
        raise ConfigError(f"{origin} is not valid TOML: {error}") from None
    for about in ("made", "title", "source", "found"):
        tables.pop(about, None)
    tables = merge(tables)
    for flag, name in named_code(tables).items():
        raise ConfigError(
            f"{origin} names code to import ({name!r}), which a file may not; "
            f"name it with {flag}, and keep the file for the other settings"
        )
    return tables


def named_code(tables: Tables) -> dict[str, str]:
    """Return the code to import that settings name, by the flag that may name it."""
    method = str(tables.get("method", {}).get("name", ""))
    network = tables.get("network", {})
    pool = network.get("pool", [])
    name = str(network.get("name", ""))
    networks = [name, *map(str, pool if isinstance(pool, list) else [])]
    found = {"--method": method} if ":" in method else {}
    # A name with a colon is imported whatever stands before it; a text of a pool may have options.
    code = is_own(name) or any(names_code(one) for text in networks[1:] for one in split(text))
    return found | ({"--network": ",".join(networks)} if code else {})


def data_source(text: str) -> str:
    """Return a data source as a run keeps it: paths absolute, to hold from anywhere."""
    if text in ("", "digits", *KNOWN):
        return text
    path = expanded(text)
    is_path = path.exists()
    return str(path.resolve()) if is_path else text


def data_table(info: DatasetInfo) -> dict[str, Any]:
    """Return the settings that load a data set again."""
    known = info.name in KNOWN or info.name == "digits"
    table: Mapping[str, Any] = {
        "source": info.name if known and not Path(info.source).exists() else info.source,
        "resolution": info.resolution,
        "like": info.like,
        "val": info.val_fraction,
        "split_seed": info.split_seed,
    }
    return {key: value for key, value in table.items() if value is not None}

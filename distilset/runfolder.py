"""Who may write into a folder: a new run, the same run going on, and nobody else."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from distilset.config import RunConfig, Tables, build, differences, merge, to_toml
from distilset.errors import ConfigError, DataError
from distilset.files import write_text
from distilset.lock import RunLock
from distilset.methods.atom import ATOMConfig
from distilset.parallel import environment, group
from distilset.schooling import ExpertsConfig
from distilset.stated import named_code
from distilset.store import (
    CARD,
    CHECKPOINTS,
    IMAGES,
    SETTINGS,
    DistilledSet,
    claim,
    read_settings,
    refuse_used,
    remove_partials,
)

_MOVING = (*CHECKPOINTS, CARD)
"""Files by which another process's work in the folder is noticed."""

MAY_CHANGE = ("distill.steps", "engine.checkpoint_every", "data.mapped")
UNSAID: Tables = {
    "distill": {"factor": 1, "optimizer": "sgd", "schedule": "constant"},
    "experts": asdict(ExpertsConfig()),  # type: ignore[call-overload]
}
"""What runs of earlier versions do not say."""

UNSAID_OF_ATOM = {
    name: getattr(ATOMConfig(), name)
    for name in ("class_weight", "characteristic_weight", "frequencies", "bandwidth")
}

MAY_BE_AUTO = ("device", "precision", "compile")


@dataclass
class RunFolder:
    """The folder of a run, and what the user allowed: to go on, or to replace what is there.

    ``earlier`` holds the settings of a run that is there and is to be resumed. From `open` to
    `close` no other process can open it.
    """

    path: Path
    resume: bool = False
    overwrite: bool = False
    earlier: dict[str, dict[str, Any]] | None = None
    _seen: list[tuple[int, int, int]] = field(default_factory=list, repr=False)
    _lock: RunLock | None = field(default=None, repr=False)

    def settle(self, stated: Tables) -> RunConfig:
        """Return the settings of the run that is resumed, or of a new one.

        Of several processes rank 0 looks into the folder. What torchrun starts anew is resumed.

        A missing, empty or half-made folder is nothing to resume, and no error.

        Raises:
            ConfigError: listing the stated settings that differ from the run's.
            DataError: if the folder is in use and may not be written to.
        """
        anew = group.agree(environment.restarts() > 0)  # each machine counts its own
        config, self.earlier = group.lead(lambda: (self._begun(stated, anew), self.earlier))
        return config

    def _begun(self, stated: Tables, anew: bool) -> RunConfig:
        if not anew:
            return self._settled(stated)
        self.resume = True
        try:
            return self._settled(stated)
        except ConfigError:
            if not self.overwrite:
                raise
            self.resume = False  # another run is there, which may be replaced
            return self._settled(stated)

    def _settled(self, stated: Tables) -> RunConfig:
        if self.path.exists() and not self.path.is_dir():
            raise DataError(f"{self.path} is a file; a run needs a folder")
        RunLock(self.path).refuse()
        self._seen = self._look()
        old = read_settings(self.path) if self.resume and self.path.is_dir() else {}
        if not old:
            refuse_used(self.path, overwrite=self.overwrite, half_made=self.resume)
            return build(stated)
        if "distill" not in old:
            raise DataError(f"{self.path} holds a selection; only a distillation can be resumed")
        old = merge(UNSAID, old)
        if old.get("method", {}).get("name") == "atom":
            old["method"] = {**UNSAID_OF_ATOM, **old["method"]}
        self._check_code(old, stated)
        self.earlier = self._lengthened(old, stated)
        return build({key: table for key, table in self.earlier.items() if key != "made"})

    def _check_code(self, old: Tables, stated: Tables) -> None:
        """Refuse to import code that only the file names."""
        now = named_code(stated)
        for flag, name in named_code(old).items():
            section = flag.removeprefix("--")
            if flag not in now and stated.get(section, {}).get("name") is None:
                raise ConfigError(
                    f"the run at {self.path} was made by {name!r}, and code that only a file names "
                    f"is not imported; resume it with {flag} {name}"
                )

    def _lengthened(self, old: Tables, stated: Tables) -> dict[str, dict[str, Any]]:
        automatic = [
            f"engine.{key}"
            for key in MAY_BE_AUTO
            if stated.get("engine", {}).get(key) == "auto"  # resolved when the run began
        ]
        first = old.get("made", {}).get("first_chunk")  # memory ran out with it
        if first is not None and stated.get("engine", {}).get("chunk") == first:
            automatic.append("engine.chunk")
        found = differences(old, stated, ignore=(*MAY_CHANGE, *automatic))
        if found:
            raise ConfigError(
                f"the run at {self.path} has other settings ({'; '.join(found)}); "
                "leave them out to resume it, or start a new run in another folder"
            )
        self._check_steps(old["distill"], stated.get("distill", {}))
        settings = {section: dict(values) for section, values in old.items()}
        for name in MAY_CHANGE:
            section, _, key = name.partition(".")
            if key in stated.get(section, {}):
                settings.setdefault(section, {})[key] = stated[section][key]
        return settings

    def _check_steps(self, old: Mapping[str, Any], stated: Mapping[str, Any]) -> None:
        """Refuse another number of steps where all steps before depend on it."""
        steps = stated.get("steps", old.get("steps"))
        if old["schedule"] == "cosine" and steps != old.get("steps"):
            raise ConfigError(
                f"the image learning rate of the run at {self.path} falls to 0 over its "
                f"{old.get('steps')} steps (distill.schedule cosine), so they cannot be changed; "
                f"got --steps {steps}"
            )

    def finished(self, steps: int) -> DistilledSet | None:
        """Return the run's result if it is resumed and has its steps already.

        Raises:
            ConfigError: if it has more than are asked for: a run can only be lengthened.
        """
        return group.lead(lambda: self._finished(steps))

    def _finished(self, steps: int) -> DistilledSet | None:
        files = (self.path / CARD, self.path / IMAGES)
        if self.earlier is None or not all(file.is_file() for file in files):
            return None
        distilled = DistilledSet.load(self.path)
        if distilled.card.steps > steps:
            raise ConfigError(
                f"the run at {self.path} has {distilled.card.steps} steps already and can only be "
                f"lengthened; got --steps {steps}"
            )
        return distilled if distilled.card.steps == steps else None

    @property
    def first_chunk(self) -> int | None:
        """The chunk that the earlier run began with, if memory ran out with it."""
        return (self.earlier or {}).get("made", {}).get("first_chunk")

    def open(self, settings: Tables) -> None:
        """Take the folder and write the settings, before anything else is written.

        Raises:
            DataError: if another process works in it, or has done so since `settle`.
        """
        lock = RunLock(self.path)
        lock.refuse()
        if self.earlier is None:
            refuse_used(self.path, overwrite=self.overwrite, half_made=self.resume)
            self.path.mkdir(parents=True, exist_ok=True)
        lock.take()
        self._lock = lock
        try:
            self._prepare()
            self.write(settings)
        except BaseException:
            self.close()
            raise

    def _prepare(self) -> None:
        if self.earlier is None:
            claim(self.path, overwrite=self.overwrite, half_made=self.resume)
        elif self._look() != self._seen:
            raise DataError(
                f"another process has gone on with the run at {self.path} meanwhile; "
                "give the same command again"
            )
        else:
            remove_partials(self.path)

    def write(self, settings: Tables) -> None:
        """Write the settings again: the chunk was halved."""
        write_text(self.path / SETTINGS, to_toml(settings))

    def close(self) -> None:
        """Let other processes have the folder."""
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    @property
    def size(self) -> int:
        """The bytes of what is there of the run and will be replaced."""
        return sum(size for _, _, size in self._seen)

    def _look(self) -> list[tuple[int, int, int]]:
        found = [self.path / name for name in _MOVING if (self.path / name).is_file()]
        return [(p.stat().st_ino, p.stat().st_mtime_ns, p.stat().st_size) for p in found]

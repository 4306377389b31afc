"""From run folders and the real data to the file."""

from collections.abc import Iterable
from os import PathLike
from pathlib import Path

from distilset.data import load_data
from distilset.errors import ConfigError, DistilsetError
from distilset.evaluation.matrix import check_fit
from distilset.reporting.applications import is_app, read_application
from distilset.reporting.collect import RunFacts, read_runs
from distilset.reporting.page import Real, write_page
from distilset.stated import data_table
from distilset.types import Splits


def report(
    runs: Iterable[str | PathLike[str]],
    out: str | PathLike[str],
    *,
    data: str | None = None,
    real: bool = True,
    title: str | None = None,
) -> Path:
    """Write one self-contained HTML file about finished runs; return its path.

    Args:
        runs: run folders, and folders of applications such as ``distilset continual``.
        out: the file to write; one that is there is replaced.
        data: where the data are, if not where the runs found them.
        real: whether to show real training images beside the runs'. They come from ``data``, or
            from the run's own source if that is on this machine: nothing is downloaded.
        title: the page's title.

    Raises:
        DataError: if a run is not finished or damaged, or ``data`` do not fit it.
        ConfigError: if no run is given.
    """
    folders = list(dict.fromkeys(map(Path, runs)))
    studies = [read_application(path) for path in folders if is_app(path)]
    facts = read_runs(path for path in folders if not is_app(path))
    if not folders:
        raise ConfigError("a report needs at least one run folder; got none")
    parts: dict[str, Real] = {}
    loaded: dict[str, Splits] = {}
    for run in facts:
        parts[run.name] = _real_part(run, data, loaded) if real else Real(None)
    return write_page(facts, parts, Path(out), title, studies)


def _real_part(run: RunFacts, data: str | None, loaded: dict[str, Splits]) -> Real:
    """Load the training part of a run, split as its card says; what is loaded is kept."""
    info = run.distilled.card.dataset
    table = data_table(info)
    source = data or str(run.distilled.settings.get("data", {}).get("source") or table["source"])
    if not data and source != "digits" and not Path(source).exists():
        return Real(None, f"The real images are not at hand ({source}); --data names them.")
    table["source"] = source
    key = repr(sorted(table.items()))
    try:
        if key not in loaded:
            loaded[key] = load_data(**table)
        train = loaded[key].train
        check_fit(run.name, run.distilled, train)
    except DistilsetError as error:
        if data:
            raise
        return Real(None, f"The real images cannot be shown: {error}.")
    changed = train.info.fingerprint != info.fingerprint
    return Real(train, "These are not the data that the run was made from." if changed else "")

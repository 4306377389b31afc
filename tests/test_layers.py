"""Imports point downwards only: a module may import those that stand before it in this list."""

import ast
from pathlib import Path

import distilset

ORDER = [
    *(
        "errors",
        "rng",
        "types",
        "formation",
        "files",
        "memory",
        "untrusted",
        "lock",
        "room",
        "cache",
    ),
    *("hardware", "allocator", "compilation"),
    *("data", "augment", "models", "losses", "training"),
    *(
        "selectors",
        "share",
        "engine",
        "schooling",
        "experts",
        "task",
        "parallel",
        "prefetch",
        "targets",
        "workers",
    ),
    *("bank", "banks"),
    *("methods", "config", "stated"),
    *(
        "card",
        "grid",
        "store",
        "optimise",
        "guard",
        "checkpoint",
        "metrics",
        "initial",
        "estimates",
    ),
    *(
        "evaluation",
        "trained",
        "plan",
        "probing",
        "outline",
        "placing",
        "exchange",
        "shortage",
        "descent",
        "runs",
        "runfolder",
        "live",
        "session",
    ),
    *("catalogue", "reporting", "api", "apps", "terminal", "testing", "cli", "__main__"),
]

ROOT = Path(distilset.__file__).parent


def imported(path):
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            yield node.module
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


def test_imports_point_downwards():
    for path in ROOT.rglob("*.py"):
        name = path.relative_to(ROOT).with_suffix("").parts[0]
        if name == "__init__":
            continue
        for module in imported(path):
            package, _, rest = module.partition(".")
            target = rest.partition(".")[0]
            if package == "distilset" and target and target != name:
                assert ORDER.index(target) < ORDER.index(name), f"{name} imports {target}"


def test_no_module_bears_a_public_functions_name():
    modules = {path.stem for path in ROOT.iterdir()}
    assert not modules & set(distilset.__all__) - {"__init__"}

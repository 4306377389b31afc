import pytest

from distilset import memory
from distilset.memory import available_bytes, memory_bytes


def test_this_machine_has_memory_and_some_of_it_is_free():
    total, left = memory_bytes(), available_bytes()
    assert total is not None
    assert left is not None
    assert 0 < left <= total


@pytest.fixture
def groups(tmp_path, monkeypatch):
    """Make control groups of files; give the function that writes one."""
    monkeypatch.setattr(memory, "GROUPS", tmp_path / "groups")
    monkeypatch.setattr(memory, "OWN_GROUP", tmp_path / "own")
    monkeypatch.setattr(memory, "MEMINFO", tmp_path / "meminfo")
    (tmp_path / "meminfo").write_text("MemTotal: 9000 kB\nMemAvailable:  800 kB\n")

    def write(own, **files):
        (tmp_path / "own").write_text(own)
        for name, text in files.items():
            path = tmp_path / "groups" / name.replace("__", "/").replace("_dot_", ".")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)

    return write


def test_the_smallest_limit_on_the_way_up_counts(groups):
    groups(
        "0::/a/b\n",
        a__b__memory_dot_max="max\n",
        a__b__memory_dot_current="100\n",
        a__memory_dot_max="700000\n",
        a__memory_dot_current="500000\n",
        **{"a__memory_dot_stat": "anon 5\ninactive_file 100000\n"},
    )
    assert memory_bytes() == 700_000
    assert available_bytes() == 300_000


def test_the_older_control_groups_count_too(groups):
    limit, used = "memory__memory_dot_limit_in_bytes", "memory__memory_dot_usage_in_bytes"
    groups("4:memory:/elsewhere\n3:cpuset:/\n", **{limit: "600000\n", used: "700000\n"})
    assert memory_bytes() == 600_000
    assert available_bytes() == 0


def test_without_groups_the_machine_counts(groups):
    groups("")
    assert available_bytes() == 800 * 1024
    assert (memory_bytes() or 0) > 1 << 20


def test_a_system_that_says_nothing(groups, monkeypatch):
    groups("")
    monkeypatch.setattr(memory, "MEMINFO", memory.OWN_GROUP / "missing")
    monkeypatch.delattr(memory.os, "sysconf")
    assert memory_bytes() is None
    assert available_bytes() is None

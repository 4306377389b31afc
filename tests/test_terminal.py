import io

from rich.console import Console

from distilset.terminal import Bar, duration, plain_table, size, training_bars


def test_bars_on_a_terminal_take_any_title_and_end(capsys):
    console = Console(force_terminal=True, file=io.StringIO(), emoji=False)
    with training_bars(console) as watch:
        for networks in (1, 3):
            progress = watch("[/b] runs/a", networks)
            for trial in range(networks):
                progress(trial, 5, 5)
        watch("cached", 5)
        progress = watch("broken off", 5)
        progress(0, 1, 5)
    shown = Bar(console, "[x]", 3)
    shown.update(2, "[/note]")
    shown.close()
    assert console._live_stack == []


def test_tables_show_markup_as_text():
    console = Console(file=io.StringIO(), emoji=False, width=80)
    console.print(plain_table("", ("[b]name", "n"), [("[/x]", 3), (":smile:", 4)]))
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert all(part in text for part in ("[b]name", "[/x]", ":smile:"))


def test_durations_and_sizes_are_written_for_people():
    assert [duration(s) for s in (0.004, 9.9, 75.0, 3723.0)] == [
        "0.00 s",
        "9.90 s",
        "1:15",
        "1:02:03",
    ]
    assert [size(n) for n in (1_500_000, 2_500_000_000)] == ["1.5 MB", "2.5 GB"]


def test_plain_progress_tells_the_end_once_and_the_time_left():
    console = Console(file=io.StringIO(), width=100)
    shown = Bar(console, "work", 4, 2)
    for done in (3, 4):
        shown.update(done, "note")
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert text.startswith("work: 4/4, note")
    assert len(text.splitlines()) == 1

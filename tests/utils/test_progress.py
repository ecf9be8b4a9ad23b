"""The progress line: what it says, and where."""

import io

import pytest

from xdeepint_ext.utils.progress import Progress, _clock


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_gets_one_line_that_is_rewritten() -> None:
    stream = Terminal()
    with Progress(200, "steps", "train", stream, interval=0.0) as progress:
        progress.update(50, text="loss 0.5")
        progress.update(150)
    lines = stream.getvalue().split("\r")[1:]
    assert len(lines) == 3
    assert lines[0].startswith("train:  25%  50 steps  ")
    assert lines[0].endswith(" left  loss 0.5\x1b[K")
    assert "100%" in lines[1]
    assert lines[2].startswith("train:  200 steps  ") and " in 0:0" in lines[2] and lines[2].endswith("\n")


def test_elsewhere_a_plain_line_now_and_then_and_one_at_the_end() -> None:
    stream = io.StringIO()
    with Progress(None, "rows", "prepare", stream) as progress:
        for i in range(100):
            progress.update(10, fraction=i / 100)
    assert stream.getvalue().count("\n") == 1
    assert stream.getvalue().startswith("prepare:  1,000 rows  ")


def test_time_left_is_what_the_share_done_promises(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr("xdeepint_ext.utils.progress.time.monotonic", lambda: now[0])
    stream = io.StringIO()
    with Progress(None, "rows", "prepare", stream, interval=10.0) as progress:
        now[0] += 30.0
        progress.update(600, fraction=0.25)
    assert stream.getvalue().splitlines()[0] == "prepare:  25%  600 rows  20 rows/s  1:30 left"


def test_an_error_ends_the_line_and_says_nothing() -> None:
    stream = io.StringIO()
    with pytest.raises(RuntimeError), Progress(1, "steps", "train", stream):
        raise RuntimeError
    assert stream.getvalue() == ""


@pytest.mark.parametrize(("seconds", "text"), [(0.4, "0:00"), (59.6, "1:00"), (3599, "59:59"), (3600 + 65, "1:01:05")])
def test_clock(seconds: float, text: str) -> None:
    assert _clock(seconds) == text

"""Progress where there is no terminal: a line now and then, fewer the longer a label takes."""

import re
from io import StringIO

import pytest

from pipeline.run import progress


def test_lines_come_further_apart_the_longer_a_label_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    now_s = 0.0
    monkeypatch.setattr(progress.time, "monotonic", lambda: now_s)
    stream = StringIO()
    with progress.show_progress("sft", stream) as show:
        for second in range(1, 400):
            now_s = float(second)
            show("step", second, 400)
        show("held out", 1, 2)
    steps = [int(done) for done in re.findall(r"(\d+)/\d", stream.getvalue())]
    assert steps == [10, 30, 70, 130, 190, 250, 310, 370, 1]

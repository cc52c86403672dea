"""Fuzzing finds what a reader raises, what takes too long and what takes too much memory."""

import mmap
import re
import resource
from pathlib import Path
from random import Random

import pytest
from hypothesis import strategies as st

from tests.claims.fuzzing import Reader, feed, mutate


def read(given: int, _: object) -> str | None:
    if given < 0:
        raise ValueError
    if given == 7:
        raise KeyError(given)
    if given == 8:
        while True:
            pass
    if given == 9:
        _hold(_more_than_ever())
    return "even" if given % 2 == 0 else None


def _more_than_ever() -> int:
    """Return bytes that take this process above its peak, which an earlier test may have set."""
    peak_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    resident = int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
    return max(peak_kib * 1024 - resident, 0) + (64 << 20)


def _hold(size_bytes: int) -> None:
    """Hold so many bytes in pages of their own: a worker's malloc keeps those that it freed."""
    with mmap.mmap(-1, size_bytes) as pages:
        for place in range(0, size_bytes, mmap.PAGESIZE):
            pages[place] = 1


# Hypothesis first reads every module's source for constants: seconds on a slow machine.
@pytest.mark.parametrize(
    ("inputs", "processor_s"),
    [
        pytest.param(st.integers(-9, 6), 3.0, id="strategy"),
        pytest.param(lambda random: random.randint(-9, 6), 0.1, id="draw"),
    ],
)
def test_inputs_are_read_or_refused_and_counted(tmp_path, inputs, processor_s):
    outcome = feed(Reader(inputs, read, (ValueError,)), 7, processor_s, tmp_path)
    assert not outcome.failures
    assert outcome.tried == sum(outcome.labels.values())
    assert set(outcome.labels) == {"read", "refused", "even"}


@pytest.mark.parametrize(
    ("given", "why"), [(7, "KeyError"), (8, r"longer than 0\.1 s"), (9, "grew by")]
)
def test_a_failure_names_the_input(tmp_path, given, why):
    reader = Reader(lambda _: given, read, (ValueError,), input_s=0.1, input_bytes=1 << 20)
    outcome = feed(reader, 7, 1.0, tmp_path)
    assert outcome.failures
    assert f"input 1, {given}: " in outcome.failures[0]
    assert re.search(why, outcome.failures[0])


def test_a_mutation_is_another_text_of_the_same_seed():
    texts = [mutate(Random(number), b"name: value\n" * 9, [b"&a"]) for number in range(200)]
    assert texts == [mutate(Random(n), b"name: value\n" * 9, [b"&a"]) for n in range(200)]
    assert len(set(texts)) > 150
    assert any(b"&a" in text for text in texts)

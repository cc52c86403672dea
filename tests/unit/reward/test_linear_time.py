"""A response of a million hostile characters is read in time that grows with its length only.

Each by the reader that it is aimed at; by every reader in `make prove`.
"""

import signal

import pytest

from tests.unit.reward.hostile_responses import HOSTILE, LIMIT_S, READERS


@pytest.mark.parametrize("name", HOSTILE)
def test_a_long_hostile_response_costs_no_more_than_linear_time(name):
    def stop(*_: object) -> None:
        pytest.fail(f"it takes more than {LIMIT_S} processor seconds")

    before = signal.signal(signal.SIGVTALRM, stop)
    signal.setitimer(signal.ITIMER_VIRTUAL, LIMIT_S)
    try:
        READERS[HOSTILE[name].aimed_at](HOSTILE[name].response())
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)

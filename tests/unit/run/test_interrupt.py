"""A request to stop is never lost, also not while processes are started.

Signals go to this thread: others, which pytest's workers have, hold none back.
"""

import signal
import threading

import pytest

from pipeline.run.interrupt import hold_back_signals, stop_requests


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_what_came_while_it_was_held_back_is_a_request_once_somebody_listens(
    number: int, capfd: pytest.CaptureFixture[str]
) -> None:
    with hold_back_signals():
        signal.pthread_kill(threading.get_ident(), number)
        with stop_requests() as stop:
            assert stop.is_requested
    assert "stopping after this step" in capfd.readouterr().err


def test_a_launcher_is_told_what_came_while_it_started_others() -> None:
    told: list[int] = []
    with stop_requests(is_silent=True) as stop:
        with hold_back_signals():
            signal.pthread_kill(threading.get_ident(), signal.SIGINT)
            assert not stop.is_requested
            stop.forward_to = told.append
        assert told == [signal.SIGINT]
        assert stop.is_requested


def test_the_second_request_does_not_wait_and_a_silent_one_says_nothing(
    capfd: pytest.CaptureFixture[str],
) -> None:
    with stop_requests(is_silent=True) as stop:
        signal.pthread_kill(threading.get_ident(), signal.SIGINT)
        assert stop.is_requested
        with pytest.raises(KeyboardInterrupt):
            signal.pthread_kill(threading.get_ident(), signal.SIGINT)
    assert capfd.readouterr().err == ""

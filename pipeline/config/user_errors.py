"""Exceptions from a user's own code, raised as one error of ours that names their line.

Used where a module is imported (user_code.py) and where a function is called
(rewards/user_function.py).
"""

from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType

_MAX_CHARACTERS = 1000  # of a message: some libraries put a whole tensor into theirs


@dataclass(frozen=True)
class UserErrors:
    """A context that raises `tell("reward.py:12: KeyError: 'x'")` from an exception inside it.

    place: the line of the user's code that an error comes from, `reward.py:12`; "" for none.
    is_theirs: whether the user's code is to blame; errors of ours pass through.
    """

    tell: Callable[[str], Exception]
    place: Callable[[BaseException], str]
    is_theirs: Callable[[BaseException], bool]

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        if error is None or not self.is_theirs(error):
            return
        place = self.place(error)
        line = f"{type(error).__name__}: {_words(error)}"
        raise self.tell(f"{place}: {line}" if place else line) from error


def _words(error: BaseException) -> str:
    try:
        # str() of a SyntaxError would repeat the place.
        words = error.msg if isinstance(error, SyntaxError) else str(error)
    except Exception:  # noqa: BLE001  the exception's class is the user's as well
        return "(it cannot be printed)"
    words = " ".join(words.split())
    return words if len(words) <= _MAX_CHARACTERS else f"{words[:_MAX_CHARACTERS]}..."

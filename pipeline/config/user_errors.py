"""What a user's own code raises, told as one error of ours that names their line.

Of a module that is imported (user_code.py) and of a function that is called
(rewards/user_function.py).
"""

from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType

_MAX_CHARACTERS = 1000  # of a message: some libraries put a whole tensor into theirs


@dataclass(frozen=True)
class UserErrors:
    """A context that raises `tell("reward.py:12: KeyError: 'x'")` from what is raised inside.

    place: the line of the user's own that an error comes from, `reward.py:12`; "" for none.
    is_theirs: whether the user's code is to blame; any other error passes through.
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
        # Of a SyntaxError, str() would name the place once more.
        words = error.msg if isinstance(error, SyntaxError) else str(error)
    except Exception:  # noqa: BLE001  the exception's class is the user's as well
        return "(it cannot be printed)"
    words = " ".join(words.split())
    return words if len(words) <= _MAX_CHARACTERS else f"{words[:_MAX_CHARACTERS]}..."

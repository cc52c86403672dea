"""Turns what libraries raise on somebody else's files into one error that names the file.

transformers builds whatever a config says, and safetensors, tokenizers and PEFT each have errors of
their own; two kinds cannot be caught by a name of their own (see `Loading`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError

from pipeline.errors import CorruptArtifactError, InfrastructureError

if TYPE_CHECKING:
    from types import TracebackType

# What a config that makes no sense comes to, somewhere inside transformers' own code.
NONSENSE = (
    *(ArithmeticError, AssertionError, AttributeError, ImportError, LookupError, MemoryError),
    *(OSError, RuntimeError, TypeError, ValueError, SafetensorError, StrictDataclassError),
)


@dataclass(frozen=True)
class Loading:
    """Makes of whatever loading raises one PosttrainError.

    name: of the model, for people. what: it was to be loaded as. is_local: from a folder; anything
    else comes from the hub, where the network is the likeliest cause.
    """

    name: str
    what: str
    is_local: bool

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        if error is None or not (isinstance(error, NONSENSE) or _is_from_rust(error)):
            return
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        if isinstance(error, KeyError):
            reason = f"no {reason}"
        elif "ignore_mismatched_sizes" in reason:  # upstream names the tensors in its log alone
            reason = "its weights have other shapes than its config.json says"
        if not self.is_local and isinstance(error, OSError):
            message = f"cannot be loaded from the hub as {self.what}: {reason}"
            raise InfrastructureError(self.name, message, "is it in the cache?") from error
        message = f"cannot be loaded as {self.what}: {reason}"
        hint = "its files do not belong together, or are not what they seem"
        raise CorruptArtifactError(self.name, message, hint) from error


def _is_from_rust(error: BaseException) -> bool:
    """Whether tokenizers raised it: a bare Exception for its own errors, a panic for its bugs."""
    return type(error) is Exception or type(error).__name__ == "PanicException"

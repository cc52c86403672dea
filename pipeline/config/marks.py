"""Marks of a recipe's fields: what a value names, and whether it is part of what is computed.

They stand in annotations (`Annotated[str, NamesFile()]`); references and fingerprints go by them.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Execution:
    """Marks a field that changes how a stage runs, never what it computes."""


@dataclass(frozen=True)
class RefersTo:
    """Marks a string that may be `$stage`, and which kinds of artifact that stage may produce.

    words: values that stand for no model by name, but for one that the stage has already.
    """

    kinds: tuple[str, ...]
    words: tuple[str, ...] = ()


@dataclass(frozen=True)
class NamesTask:
    """Marks a string that names a task."""


@dataclass(frozen=True)
class NamesObject:
    """Marks a string `module:name`: a user's own code, whose source is part of what is computed."""


@dataclass(frozen=True)
class NamesFile:
    """Marks a string that is a file, which is part of what is computed."""


@dataclass(frozen=True)
class NamesTemplate:
    """Marks a string that names a chat template, whose text is part of what is computed."""


@dataclass(frozen=True)
class NamesFolder:
    """Marks a string that is a folder, whose files are part of what is computed."""


EXECUTION = Execution()

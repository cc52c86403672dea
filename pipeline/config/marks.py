"""Marks of a recipe's fields: what a value names, and whether it is part of what is computed.

They stand in annotations (`Annotated[str, NamesFile()]`), where references.py and the fingerprint
look for them.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Execution:
    """Marks a field that changes how a stage runs, never what it computes."""


@dataclass(frozen=True)
class RefersTo:
    """Marks a string that may be `$stage`, and which kinds of artifact that stage may produce.

    words: values that do not name a model, but one that the stage has anyway.
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


@dataclass(frozen=True)
class AbsentByDefault:
    """Marks a field that came later: at its default it is no part of a fingerprint.

    So that what was computed before there was such a field keeps its fingerprint.
    """


EXECUTION = Execution()
ABSENT_BY_DEFAULT = AbsentByDefault()

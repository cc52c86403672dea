"""The `posttrain` command in this process, and what a test asks of it."""

import builtins
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import pytest

from pipeline.cli import main

HEAVY = (
    *("torch", "transformers", "trl", "peft", "datasets", "accelerate"),
    *("scipy", "pandas", "matplotlib"),
)


@dataclass(frozen=True)
class Said:
    """What a command left: its exit code, and what it wrote."""

    code: int
    out: str
    err: str


Command = Callable[..., Said]


def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """Return a function that runs `posttrain ARGUMENTS`."""

    def call(*arguments: str) -> Said:
        monkeypatch.setattr(sys, "argv", ["posttrain", *arguments])
        code: object = 0
        try:
            main()
        except SystemExit as leaving:
            code = leaving.code or 0
        written = capsys.readouterr()
        assert isinstance(code, int)
        return Said(code, written.out, written.err)

    return call


def refuse_heavy_imports(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make it an error to import torch or the like, imported already or not."""
    real_import = builtins.__import__

    def light_import(name: str, *arguments: Any, **named: Any) -> ModuleType:
        assert name.partition(".")[0] not in HEAVY, f"{name} is imported"
        return real_import(name, *arguments, **named)

    monkeypatch.setattr(builtins, "__import__", light_import)


def the_line(said: Said) -> str:
    """Return the one line of an error of the user's; anything else about it fails the test."""
    assert said.code == 2, said
    assert said.err.endswith("\n"), said
    line = said.err[:-1]
    assert line.isprintable(), said
    assert "Traceback" not in line, said
    assert len(line) < 400, said
    return line


def is_like(line: str, words: str) -> bool:
    """Whether a line is these words, in which `...` stands for anything."""
    return re.fullmatch(".*".join(map(re.escape, words.split("..."))), line) is not None

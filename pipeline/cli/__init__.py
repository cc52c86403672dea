"""The `posttrain` command. Nothing heavy is imported before a command needs it."""

import gc
import os
import sys
from contextlib import suppress
from typing import cast

import typer

from pipeline.cli import chat, compare, doctor, export, init, label, recipes, report, track
from pipeline.cli.app import app
from pipeline.environment import ignore_talk_between_libraries, set_environment
from pipeline.errors import InfrastructureError, InterruptedRunError, PosttrainError, printable
from pipeline.files.disk_errors import disk_failure

__all__ = [
    "app",
    "chat",
    "compare",
    "doctor",
    "export",
    "init",
    "label",
    "main",
    "recipes",
    "report",
    "track",
]

# What every wrong command line raises; Typer has its class under a private name only.
_UsageError = cast("type[typer.BadParameter]", typer.BadParameter.__base__)


def main() -> None:
    """Run the command; errors of the user's are one line and an exit code."""
    gc.disable()  # a tenth of a plan's time, for a process that soon ends; `run` turns it on again
    # Looking through all installed packages for plugins takes pydantic longer than a plan.
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "1")
    set_environment()
    ignore_talk_between_libraries()
    try:
        left_with = app(sys.argv[1:] or ["--help"], standalone_mode=False)
        sys.stdout.flush()  # at the interpreter's end it would be a traceback
        if left_with == InterruptedRunError.exit_code:  # what Typer makes of Ctrl-C
            _exit("stopped", left_with)
    except PosttrainError as error:
        _exit(str(error), error.exit_code)
    except _UsageError as error:
        command = error.ctx.command_path if error.ctx else "posttrain"
        message = error.format_message().rstrip(".")
        line = f"{command}: {message[:1].lower()}{message[1:]}; see `{command} --help`"
        _exit(" ".join(line.split()), 2)
    except MemoryError:
        hint = "less data at once, a smaller model, or a machine with more"
        _exit(f"posttrain: memory ran out; {hint}", InfrastructureError.exit_code)
    except KeyboardInterrupt:
        _exit("stopped", InterruptedRunError.exit_code)
    except (typer.Abort, typer.Exit) as leaving:
        sys.exit(getattr(leaving, "exit_code", 1))
    except BrokenPipeError:
        _drop_output()
    except Exception as error:
        failure = disk_failure(error, " ".join(["posttrain", *sys.argv[1:2]]))
        if failure is None:
            raise  # a bug of ours
        _exit(str(failure), failure.exit_code)


def _exit(line: str, code: int) -> None:
    with suppress(OSError):
        sys.stderr.write(printable(line) + "\n")
        sys.stderr.flush()
    try:
        sys.stdout.flush()
    except OSError:
        _drop_output()
    sys.exit(code)


def _drop_output() -> None:
    """Send what stdout still holds nowhere: nobody reads it, or its disk is full."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())

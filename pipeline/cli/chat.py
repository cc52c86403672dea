"""The command `posttrain chat`."""

import gc
import io
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from pipeline.cli.app import RUNS, Roots, Runs, app, console, roots_by_name, store_at
from pipeline.errors import PosttrainError

if TYPE_CHECKING:
    from socket import socket

    from eval.model import LanguageModel
    from eval.tools.tool import Tool
    from pipeline.chat.session import Session
    from pipeline.config.stage import StageInput

_WHAT = "A folder, a hub id, or a stage as recipe.yaml:stage."


@app.command()
def chat(
    model: Annotated[str, typer.Argument(metavar="MODEL", help=_WHAT)],
    versus: Annotated[
        str | None, typer.Option(metavar="MODEL", help="A second model, asked the same.")
    ] = None,
    web: Annotated[bool, typer.Option("--web", help="Chat on a page in the browser.")] = False,
    port: Annotated[
        int | None,
        typer.Option(min=1, max=65535, help="Port of the page; else 8000 or the next free one."),
    ] = None,
    opens: Annotated[bool, typer.Option("--open", help="Open the page in the browser.")] = False,
    system: Annotated[str, typer.Option(metavar="TEXT", help="System prompt.")] = "",
    temperature: Annotated[float, typer.Option(help="0 always takes the likeliest token.")] = 0.7,
    top_p: Annotated[float, typer.Option(help="Share of probability to sample from.")] = 1.0,
    max_new_tokens: Annotated[int, typer.Option(help="Tokens of an answer, at most.")] = 256,
    seed: Annotated[int, typer.Option(help="The same seed gives the same answers.")] = 0,
    tools: Annotated[
        str | None,
        typer.Option(
            metavar="NAME,NAME,...",
            help="What it may call: calculator, python, module:function, an SQLite file.",
        ),
    ] = None,
    max_turns: Annotated[
        int, typer.Option(min=2, help="How often it may write to one text, with tools.")
    ] = 4,
    form: Annotated[
        Literal["document", "chat"] | None,
        typer.Option(help="Answer, or continue a document; else as the model was trained."),
    ] = None,
    precision: Annotated[
        Literal["fp32", "bf16", "fp16"], typer.Option(help="Precision of the weights.")
    ] = "fp32",
    roots: Roots = None,
    runs: Runs = RUNS,
) -> None:
    """Talk to a model, or to two side by side, here or in a browser.

    From a pipe, each line is a prompt.
    """
    from pipeline.chat.settings import Settings
    from pipeline.commands.named_model import recipe_folder, resolve_model

    if not web and (port is not None or opens):
        option = "--open" if port is None else "--port"
        raise PosttrainError(option, "has a meaning with --web only", "add --web")
    settings = Settings().with_changes(
        temperature=temperature,
        top_p=top_p,
        max_new_tokens=max_new_tokens,
        seed=seed,
        system=system,
    )
    store, folders = store_at(runs), roots_by_name(roots)
    made = _load_tools(tools, folders) if tools is not None else []
    texts = [model] if versus is None else [model, versus]
    sources = [resolve_model(text, store, roots=folders) for text in texts]
    bound = _bind(port) if web else None  # a port that is taken is said before a model is loaded
    gc.enable()
    models = [_load(source, form, precision) for source in sources]
    if made:
        models = _give_tools(models, made, max_turns)

    from pipeline.chat.pictures import pictures_of
    from pipeline.chat.session import Session

    pictures = [
        pictures_of(source, recipe_folder(text))
        for source, text in zip(sources, texts, strict=True)
    ]
    session = Session(models, settings, pictures)
    if bound is not None:
        from pipeline.chat.web import serve

        serve(session, bound, opens=opens, say=typer.echo)
    else:
        _in_terminal(session)


def _load_tools(text: str, roots: Mapping[str, Path]) -> "list[Tool]":
    """Return the tools that `--tools` names; functions and files of the current folder."""
    from pipeline.config.references import Places
    from pipeline.config.tool_signature import check_tool_function
    from pipeline.config.tools import tool_blocks
    from pipeline.tools.use import load_tools

    try:
        blocks = tool_blocks(text)
        for block in blocks:
            if block.use is not None:
                check_tool_function(block.use, Path.cwd())
    except ValueError as error:
        message, _, hint = str(error).partition("; ")
        raise PosttrainError("--tools", message, hint) from error
    return load_tools(blocks, Places(Path.cwd(), roots))


def _give_tools(
    models: "list[LanguageModel]", tools: "list[Tool]", max_turns: int
) -> "list[LanguageModel]":
    """Return the models, those that chat with tools; PosttrainError where none does."""
    from pipeline.tools.use import with_tools

    if all(model.form == "document" for model in models):
        raise PosttrainError("--tools", "a model that continues text calls no tools")
    return [
        model if model.form == "document" else with_tools(model, tools, max_turns=max_turns)
        for model in models
    ]


def _bind(port: int | None) -> "socket":
    from pipeline.web.connections import bind_socket

    return bind_socket(port)


def _load(
    source: "StageInput",
    form: Literal["document", "chat"] | None,
    precision: Literal["fp32", "bf16", "fp16"],
) -> "LanguageModel":
    from rich.console import Console
    from rich.text import Text

    with Console(stderr=True).status(Text(f"loading {source.name}")):
        from huggingface_hub.utils import logging as hub_logging
        from transformers.utils import logging

        from pipeline.models.language import language_model

        logging.disable_progress_bar()
        hub_logging.set_verbosity_error()  # a line for each of its retries
        return language_model(source, form=form, precision=precision)


def _in_terminal(session: "Session") -> None:
    from pipeline.chat.terminal import answer_lines, talk

    for stream, errors in ((sys.stdin, "replace"), (sys.stdout, "backslashreplace")):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=errors)
    if sys.stdin.isatty() and sys.stdout.isatty():
        talk(session, console())
    else:
        answer_lines(session, sys.stdin, sys.stdout)

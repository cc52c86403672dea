"""Where others' texts are shown outside of pages: the model card, the terminal, its chat.

Each writes what it needs into a folder, the payloads with it, and gives what is shown as texts; on
a console without colours, so that every escape sequence in them is somebody else's.
"""

from __future__ import annotations

import gc
import io
import json
import sys
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import yaml

from tests import report_runs

if TYPE_CHECKING:
    from pathlib import Path

    from rich.console import Console

    from eval.model import LanguageModel

Told = Callable[[str], str]

_STAGES = """\
name: mine
stages:
  sft:
    stage: sft
    model: Qwen/Qwen3-0.6B-Base
    data:
      - {task: arithmetic, rows: 500, weight: 2}
      - {hub: ann/chats, revision: 0a1b2c3d4e5f60718, subset: SUBSET, split: SPLIT}
      - {file: FILE}
    training_args: {learning_rate: 2e-5}
  compare: {stage: compare, baseline: $sft, candidates: Qwen/Qwen3-0.6B-Base, tasks: arithmetic}
"""
_SCORES = ("score", "low", "high", "delta", "delta_low", "delta_high")


def card_of(folder: Path, told: Told) -> str:
    """Return the model card of an adapter-free model with payloads in all that a card shows."""
    from pipeline.commands.export import Prompting, prepare
    from pipeline.plan.plan import make
    from pipeline.recipe.load import load
    from pipeline.report.card import model_card
    from pipeline.store.store import Store

    file = _file_name(told("rows"))
    (folder / file).write_text('{"prompt": "a", "completion": "b"}\n')
    _write_recipe(
        folder / "mine.yaml",
        FILE=f"./{file}",
        SUBSET=_for_a_file(told("en")),
        SPLIT=_for_a_file(told("train")),
    )
    store = Store(folder / "runs")
    row = report_runs._row(told, "facts", "verified_accuracy", "tuned", "zero-shot", 0)
    row |= {"model": told("sft"), "n": 12}
    rows = [row | dict.fromkeys(_SCORES, 0.5)]
    found = report_runs.comparison_of(
        {"baseline": told("sft"), "models": [told("sft")], "rows": rows}
    ).to_json()
    files = {"model.safetensors": "weights", "config.json": "{}"}
    metrics = {f"bits_per_byte {told('text')}": 2.5, "kl": 1.0, "kl_prompts": told("held out")}
    made = make(load(folder / "mine.yaml"), store)
    _publish(store, made.stage("sft"), files, metrics=metrics, versions={"torch": told("2.13")})
    made = make(load(folder / "mine.yaml"), store)
    _publish(store, made.stage("compare"), {"comparison.json": json.dumps(found)})
    export = prepare(make(load(folder / "mine.yaml"), store), "sft", merged=None)
    return model_card(export, Prompting(True, (3, 7), 1), repository=None)


def _publish(store: Any, planned: Any, files: dict[str, str], **given: Any) -> None:
    working = store.working(planned.kind, planned.fingerprint)
    working.start_over()
    for file, content in files.items():
        (working.out / file).write_text(content)
    execution = {"versions": given.get("versions", {}), "python": "3.11.7"}
    store.publish(
        working,
        record={
            **{"name": planned.name, "kind": planned.kind, "inputs": {}, "properties": {}},
            "produces": "policy" if "model.safetensors" in files else "comparison",
            **{"metrics": given.get("metrics", {}), "identity": planned.identity},
            "fingerprint": planned.fingerprint,
            "provenance": {
                **{"posttrain": "0.1.0", "execution": execution, "seconds": 1.0, "exact": True},
                "because": given.get("because", "first time"),
            },
        },
    )


def _write_recipe(path: Path, **given: str) -> None:
    text = _STAGES
    for name, value in given.items():
        text = text.replace(name, _quoted(value))
    path.write_text(text, encoding="utf-8")


def _for_a_file(text: str) -> str:
    return text.encode("utf-8", "replace").decode().replace("\0", "")


def _quoted(text: str) -> str:
    """Return a text as a scalar of YAML on one line."""
    return yaml.safe_dump(text, default_style='"', width=10**9).strip()


def _file_name(text: str) -> str:
    """Return what of a text can be the name of a file; what cannot be printed, a recipe refuses."""
    kept = "".join(c for c in _for_a_file(text) if c.isprintable() and c != "/")
    return kept.encode()[:200].decode(errors="ignore") + ".jsonl"


def _console() -> tuple[Console, io.StringIO]:
    from rich.console import Console

    written = io.StringIO()
    return Console(file=written, width=100, color_system=None), written


def terminal_tables(folder: Path, told: Told) -> Iterator[str]:
    """Give what `run`, `status` and `compare` print of results: tables, gates, notes."""
    from pipeline.commands.status import StageState
    from pipeline.report.terminal.comparison import print_comparisons, print_overview
    from pipeline.report.terminal.full_comparison import print_comparison
    from pipeline.report.terminal.pooled import print_pooled
    from pipeline.report.terminal.run import print_losses_of_rows, print_outcomes, print_states
    from pipeline.run.outcomes import Outcome
    from pipeline.store.store import Store

    screen, written = _console()
    with patch.multiple(report_runs, _ITEMS=3, WAYS=(("zero-shot", 0),)):
        found = report_runs._comparison(told)
    print_comparison(report_runs.comparison_of(found), screen)
    shown = report_runs.shown(found, told("compare"))
    print_overview(shown, screen)
    print_comparisons([shown, replace(shown, gate=None)], screen)
    print_pooled(told("compare"), report_runs.pooled_of(_pooled(told)), screen)
    path = folder / _file_name(told("a folder"))
    state = StageState(told("sft"), "sft", told("changed: "), 12, path)
    results = {state.name: told("loss 1.5")}
    print_states([state], screen, results=results, links=folder / _file_name(told("runs")))
    (folder / "mine").mkdir()
    store = Store(folder / "runs")
    report_runs.write_run(folder / "runs", told=report_runs.plain)
    artifact = next(each for each in store.artifacts() if each.kind == "sft")
    metrics = {told("loss"): 1.5, "packing": told("padded, since"), "padding_share": 0.1}
    artifact = replace_metrics(artifact, metrics)
    outcomes = [Outcome(told("sft"), "ran", artifact, 1.0)]
    print_outcomes(outcomes, screen)
    print_losses_of_rows(outcomes, screen)
    yield written.getvalue()


def replace_metrics(artifact: Any, metrics: dict[str, Any]) -> Any:
    """Return an artifact with other metrics."""
    return replace(artifact, metrics=metrics)


def _pooled(told: Told) -> dict[str, Any]:
    figures = {"by_seed": [0.5, 0.6], "deviation": 0.1, "mean": 0.55, "low": 0.4, "high": 0.7}
    spread = {**figures, "smallest": 0.5, "largest": 0.6}
    row = {"task": told("facts"), "metric": "verified_accuracy", "model": told("sft"), "n": [3, 3]}
    row |= {"style": "zero-shot", "shots": 0, "form": "chat", "lower_is_better": False}
    return {
        "baseline": told("base"),
        "seeds": [1, 2],
        "rows": [row | {"score": spread, "delta": spread}],
    }


@cache
def _models() -> list[LanguageModel]:
    from tests.unit.chat.conftest import tiny_model

    return [tiny_model(), tiny_model(form="document")]


def chat_lines(folder: Path, told: Told) -> Iterator[str]:
    """Give what the chat writes of names, texts and answers: on a terminal and through a pipe."""
    from pipeline.chat import terminal
    from pipeline.chat.commands import take
    from pipeline.chat.generation import Answer
    from pipeline.chat.layout import Column, lay_out
    from pipeline.chat.session import Exchange, Session
    from pipeline.chat.settings import Settings
    from pipeline.errors import PosttrainError
    from pipeline.text.visible import visible

    screen, written = _console()
    settings = Settings(max_new_tokens=1, temperature=0)
    answer = Answer(_models()[0], told("Once upon"), [1], settings, room=1, seed=(1,))
    answer.text = told("a time")
    for width in (40, 100):
        columns = [
            Column(visible(told("one")), answer, True, True),
            Column("two", answer, False, True),
        ]
        for line in lay_out(columns, screen, width).settled:
            screen.print(line)
    session = Session([replace(model, name=told("./tiny")) for model in _models()], settings)
    terminal._greet(session, screen)
    for side in session.sides:
        side.exchanges.append(Exchange(told("Hi"), told("Hello")))
    for line in ("/history", f"/sed {told('x')}", told("/temperature x"), told("/save x/y")):
        try:
            said = take(session, line).messages
        except PosttrainError as error:
            said = [str(error)]
        yield "\n".join(map(visible, said)) if line == "/history" else "\n".join(said)
    out = io.StringIO()
    terminal.answer_lines(session, ["/history\n"], out)
    yield written.getvalue() + out.getvalue()


def recipe_errors(folder: Path, told: Told) -> Iterator[str]:
    """Give the line that each wrong recipe and data file is refused with."""
    from pipeline.checks.data import check_recipe_data
    from pipeline.errors import PosttrainError, printable
    from pipeline.plan.plan import make
    from pipeline.recipe.load import load
    from pipeline.store.store import Store

    for number, (text, overrides) in enumerate(_wrong_recipes(told)):
        path = folder / f"{number}.yaml"
        path.write_bytes(text.encode("utf-8", "replace"))
        try:
            recipe = load(path, overrides=overrides)
            make(recipe, Store(folder / "runs"))
            said = [*check_recipe_data(recipe)]
        except PosttrainError as error:
            said = [str(error)]
            assert "\n" not in said[0]
        yield "\n".join(map(printable, said))
    (folder / "rows.yaml").write_text(_sft("{file: rows.jsonl}"))
    for row in _wrong_rows(told):
        (folder / "rows.jsonl").write_text(row)
        try:
            said = [*check_recipe_data(load(folder / "rows.yaml"))]
        except PosttrainError as error:
            said = [str(error)]
        yield "\n".join(said)


def _sft(data: str, **given: str) -> str:
    keys = "".join(f"    {key}: {value}\n" for key, value in given.items())
    return f"name: x\nstages:\n  sft:\n    stage: sft\n    model: a/b\n    data: {data}\n{keys}"


def _wrong_recipes(told: Told) -> Iterator[tuple[str, list[str]]]:
    def quoted(text: str) -> str:
        return _quoted(_for_a_file(text))

    fine = "{task: arithmetic}"
    yield f"name: {quoted(told('x'))}\nstages: {{}}\n", []
    yield f"name: x\nstages:\n  {quoted(told('a'))}: {{stage: sft}}\n", []
    yield f"name: x\nstages:\n  a: {{stage: {quoted(told('sft'))}}}\n", []
    yield f"name: x\n{quoted(told('key'))}: 1\nstages: {{}}\n", []
    for kind in ("task", "file", "hub"):
        yield _sft(f"{{{kind}: {quoted(told('a'))}}}"), []
    yield _sft("{file: 0.yaml, columns: {prompt: " + quoted(told("a")) + "}}"), []
    yield _sft("{file: 0.yaml, " + quoted(told("a")) + ": 1}"), []
    yield _sft(fine).replace("model: a/b", f"model: {quoted(told('$a'))}"), []
    yield _sft(fine).replace("model: a/b", f"model: {quoted(told('./a'))}"), []
    yield _sft(fine, training_args=f"{{{quoted(told('a'))}: 1}}"), []
    yield _sft(fine, training_args=f"{{learning_rate: {quoted(told('a'))}}}"), []
    yield _sft(fine, precision=quoted(told("fp32"))), []
    yield _sft(fine, lora=f"{{r: 4, target_modules: {quoted(told('a'))}}}"), []
    yield _sft(fine), [f"stages.sft.{told('batch_size')}={told('8')}"]
    yield _sft(fine), [told("seed")]
    yield told("name: x\nstages: {"), []
    yield f"# {told('a comment')}\nname: x\nstages: {{}}\n", []
    yield f"&a {told('x')}: *b", []
    gate = f"{{{quoted(told('arithmetic'))}: {{delta_low: {quoted(told('0'))}}}}}"
    compare = "{stage: compare, baseline: a/b, candidates: a/c, tasks: arithmetic, gate: GATE}"
    yield f"name: x\nstages:\n  c: {compare.replace('GATE', gate)}\n", []
    rewards = f"[{{function: {quoted(told('f.py:f'))}}}]"
    ppo = f"{{stage: ppo, model: a/b, data: {fine}, rewards: {rewards}}}"
    yield f"name: x\nstages:\n  p: {ppo}\n", []


def _wrong_rows(told: Told) -> Iterator[str]:
    yield json.dumps({told("prompt"): "a", told("completion"): "b"}) + "\n"
    yield json.dumps({"prompt": told("a"), "completion": None}) + "\n"
    yield json.dumps({"messages": told("a")}) + "\n"
    yield json.dumps({"messages": [{"role": told("hacker"), "content": told("a")}]}) + "\n"
    yield json.dumps({"messages": [{told("role"): "user", "content": "a"}]}) + "\n"
    yield json.dumps({"prompt": "", "completion": told("a"), told("more"): 1}) + "\n"
    yield _for_a_file(told("no JSON")) + "\n"


def command_lines(folder: Path, told: Told) -> Iterator[str]:
    """Give what commands print of a recipe that is right, whose store and logs hold payloads."""
    file = _file_name(told("rows"))
    (folder / file).write_text(json.dumps({"prompt": told("a"), "completion": told("b")}) + "\n")
    base = json.dumps({"file": f"./{file}"})
    recipe = folder / "mine.yaml"
    recipe.write_text(_sft(base), encoding="utf-8")
    from pipeline.plan.plan import make
    from pipeline.recipe.load import load
    from pipeline.store.store import Store

    store = Store(folder / "runs")
    planned = make(load(recipe), store).stage("sft")
    files = {
        "model.safetensors": "w",
        "config.json": "{}",
        "log.txt": _for_a_file(told("log")),
    }
    metrics = {told("loss"): 1.0, "packing": told("padded, since"), "padding_share": 0.1}
    _publish(store, planned, files, metrics=metrics, because=told("first time"))
    (folder / "runs" / _file_name(told("stray"))).write_text("x")
    runs = ["--runs", str(folder / "runs")]
    for command in (
        ["check", str(recipe), *runs],
        ["plan", str(recipe), *runs],
        ["status", str(recipe), *runs],
        ["why", str(recipe), "sft", *runs],
        ["logs", str(recipe), "sft", *runs],
        ["clean", *runs],
        ["why", str(recipe), _for_a_file(told("sft")), *runs],
        [_for_a_file(told("comand"))],
        ["plan", str(recipe), "--set", told("a=b"), *runs],
        ["plan", str(recipe), _for_a_file(told("--option")), *runs],
    ):
        yield _said(command)
    recipe.write_text(_sft(base, training_args="{learning_rate: 1e-3}"), encoding="utf-8")
    yield _said(["why", str(recipe), "sft", *runs])


def _said(command: list[str]) -> str:
    """Return what a command prints, in this process."""
    from pipeline.cli import main

    out = io.StringIO()
    with redirect_stdout(out), redirect_stderr(out), patch.object(sys, "argv", ["x", *command]):
        try:
            main()
        except SystemExit as leaving:
            if leaving.code not in (None, 0, 2, 3, 4):
                out.write(f"Traceback: it left with {leaving.code}")
        finally:
            gc.enable()
    return out.getvalue()

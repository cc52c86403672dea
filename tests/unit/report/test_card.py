"""The model card: what it says of a plan's stages, and that nothing in a recipe can break it."""

import json
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from huggingface_hub import ModelCard

from eval.tasks.arithmetic import Arithmetic
from pipeline.commands.export import prepare
from pipeline.commands.export_contents import Prompting
from pipeline.commands.gguf import GgufFile
from pipeline.llamacpp.agreement import Agreement
from pipeline.llamacpp.write import Written
from pipeline.plan.plan import make
from pipeline.recipe.load import load
from pipeline.report.card import model_card, text
from pipeline.store.store import Store
from tests.report_runs import comparison_of

ODD = "a|b`c d<e>*f*[g](h)_i_.jsonl"
RECIPE = """\
name: mine
stages:
  sft:
    stage: sft
    model: Qwen/Qwen3-0.6B-Base
    data:
      - {task: arithmetic, rows: 500, weight: 2}
      - {hub: ann/chats, revision: 0a1b2c3d4e5f60718, split: train}
      - {file: ODD}
    training_args: {learning_rate: 2e-5}
  dpo:
    stage: dpo
    model: $sft
    data: {task: arithmetic, rows: 500}
    lora: {r: 8}
  asked: {stage: evaluate, model: $dpo, tasks: arithmetic}
  compare: {stage: compare, baseline: $sft, candidates: [$asked], tasks: arithmetic}
  other: {stage: compare, baseline: Qwen/Qwen3-0.6B-Base, candidates: $sft, tasks: arithmetic}
"""
METRICS = {
    "loss": 0.5,
    "kl": 1.25,
    "kl_low": 1.0,
    "kl_high": 1.5,
    "held_out_accuracy": 0.8,
    "held_out_low": 0.7,
    "held_out_high": 0.9,
    "held_out_pairs": 60,
    "bits_per_byte /home/ann/text|x.txt": 2.5,
}
VERSIONS = {"torch": "2.13.0", "transformers": "5.23.0"}


def _row(model: str, metric: str, **figures: Any) -> dict[str, Any]:
    names = ("score", "low", "high", "delta", "delta_low", "delta_high")
    asked = {"task": "/home/ann/x|y", "style": "none", "form": "chat", "n": 12}
    asked |= {"shots": 0, "lower_is_better": False}
    return {"model": model, "metric": metric, **asked, **dict.fromkeys(names), **figures}


ROWS = [
    _row("sft", "verified_accuracy", score=0.5, low=0.4, high=0.6),
    _row("old", "verified_accuracy", score=0.7, low=0.6, high=0.8, delta=0.2, delta_low=0.1,
         delta_high=0.3),
    _row("old", "win_rate", score=0.65, low=0.55, high=0.75),
    _row("else", "win_rate", score=0.11, low=0.1, high=0.2),
]  # fmt: skip


def _published(folder: Path, name: str, kind: str, files: dict[str, str], **record: Any) -> None:
    """Publish what a stage of RECIPE would have left."""
    store = Store(folder / "runs")
    planned = make(load(folder / "mine.yaml"), store).stage(name)
    working = store.working(planned.kind, planned.fingerprint)
    working.start_over()
    for file, content in files.items():
        (working.out / file).write_text(content)
    provenance = {
        "posttrain": "0.1.0",
        "execution": {"versions": VERSIONS, "python": "3.11.7"},
        "seconds": 1.0,
        "because": "first time",
        "exact": True,
    }
    given = {"properties": {}, "metrics": {}, "provenance": provenance, **record}
    fields = {"name": name, "kind": planned.kind, "produces": kind, "inputs": {}, **given}
    fields |= {"identity": planned.identity, "fingerprint": planned.fingerprint}
    store.publish(working, record=fields)


def _card(
    folder: Path,
    name: str,
    *,
    repository: str | None = None,
    is_chat: bool = True,
    files: Sequence[GgufFile] = (),
) -> str:
    store = Store(folder / "runs")
    export = prepare(make(load(folder / "mine.yaml"), store), name, merged=None)
    return model_card(export, Prompting(is_chat, (3, 7), 1), files, repository=repository)


@pytest.fixture
def made(tmp_path: Path) -> Path:
    """A folder in which the recipe has run, as far as a card can tell."""
    (tmp_path / ODD).write_text('{"prompt": "a", "completion": "b"}\n')
    (tmp_path / "mine.yaml").write_text(RECIPE.replace("ODD", json.dumps(ODD)))
    weights = {"model.safetensors": "weights", "config.json": "{}"}
    inexact = {"exact": False, "seconds": 1.0}
    _published(tmp_path, "sft", "policy", weights, provenance=inexact)
    config = {"base_model_name_or_path": "Qwen/Qwen3-0.6B-Base", "revision": "0a1b"}
    adapter = {"adapter_model.safetensors": "", "adapter_config.json": json.dumps(config)}
    properties = {"form": "chat", "template_sha256": "ab" * 32}
    _published(tmp_path, "dpo", "policy", adapter, metrics=METRICS, properties=properties)
    _published(tmp_path, "asked", "evaluation", {"items.jsonl": ""})
    found = comparison_of({"baseline": "sft", "models": ["sft", "old"], "rows": ROWS}).to_json()
    _published(tmp_path, "compare", "comparison", {"comparison.json": json.dumps(found)})
    return tmp_path


def _tables(card: str) -> list[list[str]]:
    """Return the cells of every line of a table, as Markdown divides it."""
    lines = [line for line in card.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]


def test_the_front_matter_is_what_the_hub_reads(made: Path) -> None:
    _, front, body = _card(made, "dpo").split("---\n", 2)
    given = yaml.safe_load(front)
    assert given.pop("model-index")[0]["name"] == "mine-dpo"
    assert given == {
        "library_name": "peft",
        "pipeline_tag": "text-generation",
        "base_model": "Qwen/Qwen3-0.6B-Base",
        "datasets": ["ann/chats"],
        "tags": ["posttrain", "dpo", "lora"],
    }
    assert body.startswith("\n# dpo\n")
    assert "base_model: Qwen/Qwen3-0.6B-Base" in _card(made, "sft")


def test_the_lineage_names_every_stage_with_its_data_and_settings(made: Path) -> None:
    cells = {row[0]: row for row in _tables(_card(made, "dpo"))}
    assert all(len(cells[name]) == 6 for name in ("sft", "dpo"))
    sft, dpo = " ; ".join(cells["sft"]), " ; ".join(cells["dpo"])
    assert "Qwen/Qwen3-0.6B-Base at unresolved" in sft
    assert f"task arithmetic, version {Arithmetic.version}, rows 500, weight 2.0" in sft
    assert "ann/chats at 0a1b2c3d4e5f, split train" in sft
    assert "learning\\_rate: 2e-05" not in sft  # inside a word it needs no escape
    assert "learning_rate: 2e-05" in sft
    assert "lora: r 8, target_modules all-linear" in dpo
    assert "beta: 0.1; loss_type: sigmoid" in dpo
    assert "compare" not in cells


def test_epochs_are_no_setting_of_a_stage_that_ended_by_its_steps(made: Path) -> None:
    assert "num_train_epochs: 1" in _card(made, "sft")
    path = made / "mine.yaml"
    rows = "data: {task: arithmetic, rows: 500}"
    path.write_text(path.read_text().replace(rows, f"{rows}\n    training_args: {{max_steps: 5}}"))
    files = {"model.safetensors": "weights", "config.json": "{}"}
    _published(made, "dpo", "policy", files)
    cells = {row[0]: " ; ".join(row) for row in _tables(_card(made, "dpo"))}
    assert "num_train_epochs: 1" in cells["sft"]
    assert "num_train_epochs" not in cells["dpo"]


def test_the_figures_are_those_of_the_stage_and_of_the_comparisons_it_takes_part_in(
    made: Path,
) -> None:
    card = _card(made, "dpo")
    rows = [" ".join(row) for row in _tables(card)]
    assert "held-out pairs ranked as preferred 0.80 \\[0.70, 0.90\\], n = 60" in rows
    assert any("KL to the reference" in row and "1.25 \\[1.00, 1.50\\]" in row for row in rows)
    assert "bits per byte of held-out text: text\\|x.txt 2.500" in rows
    compared = [row for row in _tables(card) if len(row) == 7][2:]
    assert compared == [
        ["x\\|y", "verified accuracy", "sft", "chat", "12", "0.50 \\[0.40, 0.60\\]", ""],
        ["x\\|y", "verified accuracy", "old", "chat", "12", "0.70 \\[0.60, 0.80\\]",
         "+0.20 \\[+0.10, +0.30\\]"],
        ["x\\|y", "win rate", "old", "chat", "12", "0.65 \\[0.55, 0.75\\]", ""],
    ]  # fmt: skip
    assert card.count("## Compared with") == 1
    assert "/home" not in card


def test_a_card_says_what_is_not_exact_and_with_which_versions(made: Path) -> None:
    card = _card(made, "dpo")
    assert "Not exact: sft (" in card
    assert "posttrain 0.1.0, Python 3.11.7, torch 2.13.0, transformers 5.23.0" in card
    assert "ab" * 32 in card
    assert "versions are not known" in _card(made, "sft")


def test_loading_an_adapter_names_its_base_and_where_a_response_ends(made: Path) -> None:
    card = _card(made, "dpo", repository="ann/mine")
    assert 'from_pretrained("Qwen/Qwen3-0.6B-Base", revision="0a1b")' in card
    assert "eos_token_id=[3, 7]" in card
    assert "hf download ann/mine --local-dir dpo && cd dpo" in card
    assert "vllm" not in card
    whole = _card(made, "sft", is_chat=False)
    assert 'tokenizer("Once upon a time"' in whole
    assert "`vllm serve .`" in whole
    assert "hf download" not in whole


def test_no_name_of_a_file_can_break_a_table_or_add_a_link(made: Path) -> None:
    (cell,) = (row[4] for row in _tables(_card(made, "sft")) if row[0] == "sft")
    assert "a\\|b\\`c d\\<e\\>\\*f\\*\\[g\\](h)\\_i\\_.jsonl, sha256" in cell


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("plain_name-1.2", "plain_name-1.2"),
        ("two\nlines\tand more", "two lines and more"),
        ("\x1b[31mred", "\\\\x1b\\[31mred"),
        ("a\u202eb", "a\\\\u202eb"),
        ("C:\\x", "C:\\\\x"),
        ("__bold__ ~no~ $x$ &lt;", "\\_\\_bold\\_\\_ \\~no\\~ \\$x\\$ \\&lt;"),
    ],
)
def test_a_text_is_one_line_that_shows_it_as_it_is(given: str, shown: str) -> None:
    assert text(given) == shown


def test_the_hub_reads_what_was_measured_of_this_model(made: Path) -> None:
    data = ModelCard(_card(made, "dpo", repository="ann/mine")).data
    assert data.model_name == "ann/mine"
    found = {(each.dataset_name, each.metric_type): each for each in data.eval_results}
    assert len(data.eval_results) == len(found)
    assert set(found) == {
        *(("x|y", "accuracy"), ("x|y", "win_rate"), ("held-out preference pairs", "accuracy")),
    }
    own = found["x|y", "accuracy"]
    assert own.metric_value == 0.7  # not the baseline's 0.5
    assert own.metric_args == {"low": 0.6, "high": 0.8, "n": 12}
    assert own.metric_name == "verified accuracy (chat)"
    assert own.task_type == "text-generation"
    assert data.datasets == ["ann/chats"]
    unmeasured = ModelCard(_card(made, "sft")).data
    assert {each.metric_value for each in unmeasured.eval_results} == {0.5}


def test_gguf_files_stand_in_the_card_with_what_llama_cpp_made_of_them(made: Path) -> None:
    written = Written(Path("dpo-q8_0.gguf"), "q8_0", 1_234_567, kept_f16=0)
    agreement = Agreement(
        type="q8_0", prompts=200, same_ids=200, equal=183, equal_low=0.871, equal_high=0.947,
        tokens=6000, same_tokens=5980, loss=0.0123, loss_low=0.0057, loss_high=0.0189,
        widest=0.71, unlike=4,
    )  # fmt: skip
    files = [
        GgufFile("dpo-q8_0.gguf", written, agreement),
        GgufFile("dpo-f16.gguf", replace(written, type="f16"), None),
    ]
    card = _card(made, "dpo", files=files)
    rows = [row for row in _tables(card) if "gguf" in row[0]]
    assert rows == [
        ["`dpo-q8_0.gguf`", "1.2 MB", "183 of 200 [0.871, 0.947]", "5,980 of 6,000",
         "0.0123 [0.0057, 0.0189]", "0.7100"],
        ["`dpo-f16.gguf`", "1.2 MB", "not tried", "", "", ""],
    ]  # fmt: skip
    assert "ollama create dpo -f Modelfile" in card
    assert "gguf" in ModelCard(card).data.tags
    assert "llama.cpp" not in _card(made, "dpo")

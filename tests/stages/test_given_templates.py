"""`chat_template:` of stages, and the template that a base model without one is given."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

from pipeline.config.stage import StageInput
from pipeline.models.chat_templates import add_embedding_rows
from pipeline.models.load import load_policy, load_tokenizer
from pipeline.plan.plan import make
from pipeline.recipe.load import load
from pipeline.store.store import Store
from tests.command import Command, command, the_line
from tests.forked import run_forked, warm
from tests.small_model import save_model

CHATS = """\
  sft:
    stage: sft
    model: ./base
    data: {{file: chats.jsonl}}
    batch_size: 4
    training_args: {{max_steps: 3, learning_rate: 0.01}}
    {}
"""
TOKENS = ("<|im_start|>", "<|im_end|>")


@pytest.fixture
def posttrain(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Command:
    monkeypatch.chdir(tmp_path)
    rows = (
        [{"role": "user", "content": f"{n} dogs?"}, {"role": "assistant", "content": f"{4 * n}"}]
        for n in range(8)
    )
    Path("chats.jsonl").write_text("\n".join(json.dumps({"messages": row}) for row in rows))
    return command(monkeypatch, capsys)


def base(**fields: Any) -> None:
    """A model whose tokenizer has no chat template, nor a row to spare for another token."""
    save_model(Path("base"), **fields)
    Path("base/chat_template.jinja").unlink()


def recipe(*stages: str) -> Path:
    Path("recipe.yaml").write_text("name: tiny\nseed: 3\nstages:\n" + "".join(stages))
    return Path("recipe.yaml")


def ran(path: Path) -> dict[str, Any]:
    """Run a recipe; the metrics of its stage sft."""
    warm()
    ended = run_forked(path, Path("runs"))
    assert ended.code == 0, ended.output
    return json.loads(Path("runs/tiny/sft/artifact.json").read_text())["metrics"]


@pytest.mark.parametrize("is_tied", [True, False])
@pytest.mark.parametrize("lora", ["", "lora: {r: 2}"], ids=["full", "lora"])
def test_a_base_model_is_given_a_template_whose_tokens_are_added_and_trained(
    posttrain: Command, lora: str, is_tied: bool
) -> None:
    base(tie_word_embeddings=is_tied)
    pairs = (
        {"instruction": f"{n} dogs?", "chosen": f"{4 * n}", "rejected": "None."} for n in range(8)
    )
    Path("pairs.jsonl").write_text("\n".join(map(json.dumps, pairs)))
    dpo = "  dpo: {stage: dpo, model: $sft, data: {file: pairs.jsonl}, batch_size: 4, "
    dpo += f"{lora + ', ' if lora else ''}training_args: {{max_steps: 1}}}}\n"
    path = recipe(CHATS.format(lora), dpo)
    assert posttrain("check", "recipe.yaml").code == 0
    metrics = ran(path)
    assert (metrics["chat_template"], tuple(metrics["new_tokens"])) == ("chatml", TOKENS)
    folder = Path("runs/tiny/sft").resolve()
    source = StageInput("sft", "policy", str(folder), json.loads(
        (folder / "artifact.json").read_text())["properties"])  # fmt: skip
    tokenizer, trained = load_tokenizer(source), load_policy(source)
    assert tokenizer.chat_template
    ids = tokenizer.convert_tokens_to_ids(list(TOKENS))
    rows = trained.get_input_embeddings().weight
    assert rows.shape[0] == len(tokenizer) == max(ids) + 1
    # Both began among the bytes that they are spelled with, and have moved.
    letters = tokenizer(TOKENS[0], split_special_tokens=True, add_special_tokens=False)["input_ids"]
    before = AutoModelForCausalLM.from_pretrained("base").get_input_embeddings().weight
    assert not torch.allclose(rows[ids[0]], before[letters].mean(0), atol=1e-4)
    assert torch.allclose(rows[ids[0]], before[letters].mean(0), atol=0.2)
    if lora:  # upstream loads it as soon as the base has the rows
        model = AutoModelForCausalLM.from_pretrained("base")
        model.resize_token_embeddings(len(AutoTokenizer.from_pretrained(folder)))
        asked = torch.tensor([[ids[0], 5, 9, ids[1]]])
        plain = PeftModel.from_pretrained(model, str(folder))(input_ids=asked).logits
        assert torch.allclose(plain, trained(input_ids=asked).logits, atol=1e-5)


def test_a_template_is_named_or_in_a_file_and_its_variables_stay_with_the_model(
    posttrain: Command,
) -> None:
    save_model(Path("base"))
    Path("mine.jinja").write_text(
        "{% for m in messages %}{{ '<|' + m['role'] + '|>' + m['content'] + '<|end|>' }}"
        "{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>' }}"
        "{% if mood is defined %}{{ mood }}{% endif %}{% endif %}"
    )
    more = "chat_template: mine.jinja\n    chat_template_kwargs: {mood: happy}"
    path = recipe(CHATS.format(more))
    shown = posttrain("check", "recipe.yaml", "--show-mask", "sft", "--rows", "1")
    assert shown.code == 0, shown
    assert ran(path)["chat_template"] == "mine.jinja"
    tokenizer = AutoTokenizer.from_pretrained("runs/tiny/sft")
    asked = [{"role": "user", "content": "Hi"}]
    written = {
        mood: tokenizer.apply_chat_template(
            asked, tokenize=False, add_generation_prompt=True, **({"mood": mood} if mood else {})
        )
        for mood in ("", "sad")
    }
    assert written[""].endswith("<|assistant|>happy")
    assert written["sad"].endswith("<|assistant|>sad")


@pytest.mark.parametrize(
    ("more", "line"),
    [
        ("chat_template: qwen4", "there is no chat template `qwen4`; did you mean `qwen3`?"),
        ("chat_template: my.jinja", "`my.jinja` does not exist"),
        (
            "chat_template_kwargs: {moood: x}",
            "the chat template reads no `moood`; it reads add_gen",
        ),
        ("chat_template: ./base/none", "there is no folder `./base/none`"),
    ],
)
def test_what_is_no_template_is_said_before_anything_runs(
    posttrain: Command, more: str, line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    save_model(Path("base"))
    capsys.readouterr()  # a progress bar of upstream's
    recipe(CHATS.format(more))
    said = the_line(posttrain("check", "recipe.yaml"))
    assert said.startswith("recipe.yaml:"), said
    assert line in said


def test_a_changed_template_file_is_another_stage(posttrain: Command) -> None:
    save_model(Path("base"))
    recipe(CHATS.format("chat_template: mine.jinja"))
    Path("mine.jinja").write_text("{{ messages[0].content }}")

    def identity() -> str:
        return make(load(Path("recipe.yaml")), Store(Path("runs"))).stage("sft").fingerprint

    first = identity()
    Path("mine.jinja").write_text("{{ messages[1].content }}")
    assert identity() != first


@pytest.mark.parametrize("is_tied", [True, False])
def test_new_rows_begin_as_the_mean_of_what_their_tokens_are_spelled_with(
    tmp_path: Path, is_tied: bool
) -> None:
    save_model(tmp_path, tie_word_embeddings=is_tied)
    module = AutoModelForCausalLM.from_pretrained(tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    spelled = [
        tokenizer(token, split_special_tokens=True, add_special_tokens=False)["input_ids"]
        for token in TOKENS
    ]
    ends = (module.get_input_embeddings(), module.get_output_embeddings())
    before = [end.weight.detach().clone() for end in ends]
    tokenizer.add_tokens(list(TOKENS), special_tokens=True)
    add_embedding_rows(module, tokenizer, TOKENS)
    ends = (module.get_input_embeddings(), module.get_output_embeddings())
    for end, old in zip(ends, before, strict=True):
        assert end.weight.shape[0] == len(old) + len(TOKENS) == module.config.vocab_size
        assert torch.equal(end.weight[: len(old)], old)
        for row, ids in enumerate(spelled, len(old)):
            assert torch.allclose(end.weight[row], old[ids].mean(dim=0))

"""Adapters through three stages in a row: one standard PEFT adapter on the original base."""

import itertools
import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

from pipeline.config.stage import StageInput
from pipeline.models.load import load_policy, load_tokenizer
from pipeline.models.reward import load_reward_model
from reward.model import scores
from tests.trained import Trained

PROMPTS = torch.randint(0, 290, (4, 40), generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def runs(trained: Trained) -> Path:
    """The folder of the aligned recipe's stages."""
    return trained.runs / "tiny"


def _source(runs: Path, stage: str) -> StageInput:
    folder = (runs / stage).resolve()
    record = json.loads((folder / "artifact.json").read_text())
    return StageInput(
        stage, record["produces"], str(folder), record["properties"], artifact=folder.name
    )


def _metrics(runs: Path, stage: str) -> dict[str, Any]:
    return json.loads((runs / stage / "artifact.json").read_text())["metrics"]


def _first_line(runs: Path, stage: str) -> dict[str, float]:
    return json.loads((runs / stage / "metrics.jsonl").read_text().splitlines()[0])


@torch.inference_mode()
def _logits(model: Any) -> torch.Tensor:
    return model.eval()(PROMPTS).logits


def _base(runs: Path) -> Any:
    return AutoModelForCausalLM.from_pretrained((runs / "base").resolve())


@pytest.mark.parametrize("stage", ["more_lora", "sft_lora", "dpo_lora", "dpo_again", "kto_lora"])
def test_plain_peft_on_the_original_base_gives_our_logits(runs: Path, stage: str) -> None:
    ours = _logits(load_policy(_source(runs, stage)))
    plain = _logits(PeftModel.from_pretrained(_base(runs), str(runs / stage)))
    assert (ours - plain).abs().max() <= 1e-5
    assert (plain - _logits(_base(runs))).abs().max() > 1e-2, "the adapter does nothing"


def test_each_stage_adds_to_the_adapter_before_it(runs: Path) -> None:
    found = [_logits(load_policy(_source(runs, s))) for s in ("sft_lora", "dpo_lora", "dpo_again")]
    assert all((a - b).abs().max() > 1e-3 for a, b in itertools.pairwise(found))


def test_a_merged_model_equals_its_adapter(runs: Path) -> None:
    merged = AutoModelForCausalLM.from_pretrained((runs / "merged").resolve())
    adapter = load_policy(_source(runs, "dpo_again"))
    assert (_logits(merged) - _logits(adapter)).abs().max() <= 1e-5
    assert not (runs / "merged" / "adapter_config.json").exists()


@pytest.mark.parametrize("stage", ["dpo_lora", "dpo_again"])
def test_dpo_with_an_adapter_begins_at_its_reference_exactly(runs: Path, stage: str) -> None:
    assert _metrics(runs, stage)["initial_kl"] == 0.0
    assert abs(_first_line(runs, stage)["loss"] - math.log(2)) <= 1e-6


def test_dpo_of_all_weights_begins_at_its_reference(runs: Path) -> None:
    assert _metrics(runs, "dpo")["initial_kl"] == 0.0
    assert abs(_first_line(runs, "dpo")["loss"] - math.log(2)) <= 1e-6


@pytest.mark.parametrize("stage", ["kto", "kto_lora"])
def test_kto_begins_at_its_reference(runs: Path, stage: str) -> None:
    """All rewards are 0, and so is the KL term: the loss is half of the mean weight."""
    first, metrics = _first_line(runs, stage), _metrics(runs, stage)
    assert metrics["initial_kl"] == 0.0
    assert abs(first["loss"] - 0.5) <= 1e-6
    assert abs(first["kl"]) + abs(first["rewards/chosen"]) + abs(first["rewards/rejected"]) <= 1e-5
    assert metrics["held_out_loss_before"] == 0.5
    assert metrics["pairs_split"] == 31
    assert (metrics["rows_desirable"], metrics["rows_undesirable"]) == (31, 31)


def test_without_precomputing_the_first_log_ratios_are_exactly_zero(runs: Path) -> None:
    assert not _metrics(runs, "dpo_again")["reference_precomputed"]
    first = _first_line(runs, "dpo_again")
    assert first["rewards/chosen"] == first["rewards/rejected"] == 0.0
    assert _metrics(runs, "dpo_lora")["reference_precomputed"]


@pytest.mark.parametrize("stage", ["rm", "rm_lora"])
def test_a_reward_model_scores_the_same_after_loading(runs: Path, stage: str) -> None:
    """Twice: as we load it and as plain transformers and PEFT do."""
    source = _source(runs, stage)
    sequences = [row.tolist() for row in PROMPTS]
    ours = scores(load_reward_model(source), sequences)
    if stage == "rm":
        plain = AutoModelForSequenceClassification.from_pretrained(source.path)
    else:
        base = AutoModelForSequenceClassification.from_pretrained(
            (runs / "base").resolve(), num_labels=1
        )
        base.config.pad_token_id = load_tokenizer(source).pad_token_id
        plain = PeftModel.from_pretrained(base, source.path)
    assert max(abs(a - b) for a, b in zip(ours, scores(plain, sequences), strict=True)) <= 1e-6
    held_out = json.loads((runs / stage / "held_out.json").read_text())
    assert held_out["n"] == _metrics(runs, stage)["held_out_pairs"] == 40
    assert held_out["scores"]["score_sd"] > 0


def test_a_reward_model_reads_its_score_at_the_end_token(runs: Path) -> None:
    """Were EOS its padding, a response with an end would score as one without."""
    source = _source(runs, "rm")
    tokenizer, module = load_tokenizer(source), load_reward_model(source)
    assert tokenizer.pad_token_id != tokenizer.eos_token_id
    ended, cut = scores(module, [[5, 6, 7, tokenizer.eos_token_id], [5, 6, 7]])
    assert ended != cut


def test_the_artifact_names_its_base_for_the_stages_that_follow(runs: Path) -> None:
    properties = json.loads((runs / "dpo_again" / "artifact.json").read_text())["properties"]
    assert properties["base_artifact"] == (runs / "base").resolve().name
    config = json.loads((runs / "dpo_again" / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == f"../{properties['base_artifact']}"

"""DistillTrainer: what a student learns of its teacher, at which tokens, and what is refused."""

from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from pipeline.rl import logprobs
from pipeline.rl.build import build_actor
from pipeline.rl.config.distill import DistillConfig
from pipeline.rl.distill import DistillTrainer
from pipeline.rl.losses import Losses
from pipeline.rl.objective import Distilled
from pipeline.rl.sequences import Sequences
from pipeline.rl.step_totals import StepTotals
from pipeline.rl.teacher import Teacher
from tests.ppo_tasks import EOS, PAD, plain, tiny_llama, tiny_tokenizer
from tests.unit.rl.small_trainers import (
    CPU,
    VOCABULARY,
    confident,
    count_of_sevens,
    gradients_of,
    some_batch,
    weights_of,
)

PROMPTS = [{"input_ids": ids} for ids in ([3, 4], [5], [6, 7, 8])]
FAST = {"learning_rate": 2e-2, "max_completion_length": 5, "per_device_train_batch_size": 8}
SMALL = {"hidden_size": 16, "intermediate_size": 32, "num_attention_heads": 2}
KINDS: dict[str, dict[str, Any]] = {
    "reverse": {},
    "forward": {"beta": 0.0},
    "between": {"beta": 0.5},
    "first tokens": {"loss_top_k": 16},
    "sampled": {"loss_type": "policy_gradient", "per_device_train_batch_size": 32},
}


@pytest.fixture
def teacher() -> Any:
    """A wider model than the student is, with other predictions."""
    shape = {"hidden_size": 24, "intermediate_size": 32, "num_attention_heads": 2}
    return confident(tiny_llama(1, VOCABULARY, **shape))


def distill(student: Any, teacher: Any, folder: Path, **settings: Any) -> DistillTrainer:
    """Return a trainer of a student."""
    mine = ("peft_config", "reward_funcs", "processing_class")
    parts = {name: settings.pop(name) for name in mine if name in settings}
    rows = settings.pop("rows", PROMPTS)
    args = DistillConfig(**{**plain(folder), **FAST, **settings})
    parts.setdefault("processing_class", tiny_tokenizer(VOCABULARY))
    return DistillTrainer(student, teacher, args, rows, PROMPTS, **parts)


@pytest.mark.parametrize("kind", KINDS)
def test_a_student_comes_closer_to_its_teacher(
    kind: str, llama: Any, teacher: Any, tmp_path: Path
) -> None:
    settings = {"total_episodes": 20 * KINDS[kind].get("per_device_train_batch_size", 8)}
    trainer = distill(llama, teacher, tmp_path, **settings, **KINDS[kind])
    sets = {"eval_dataset": PROMPTS * 40}
    before, frozen = trainer.evaluate(**sets)["eval_teacher/kl"], weights_of(teacher)
    trainer.train()
    assert trainer.evaluate(**sets)["eval_teacher/kl"] < 0.5 * before
    after = weights_of(teacher)
    assert all(torch.equal(weight, after[name]) for name, weight in frozen.items())


def test_a_line_says_how_far_away_the_teacher_is_and_nothing_of_rewards(
    llama: Any, teacher: Any, tmp_path: Path
) -> None:
    trainer = distill(llama, teacher, tmp_path, total_episodes=16)
    trainer.train()
    lines = [line for line in trainer.state.log_history if "teacher/divergence" in line]
    assert len(lines) == 2
    assert lines[0]["loss/policy"] == pytest.approx(lines[0]["teacher/divergence"])
    assert abs(lines[0]["objective/kl"]) < 1e-4  # to the student as it came in
    of_rewards = ("rewards/", "objective/score", "objective/rlhf", "groups/")
    assert not [name for name in lines[0] if name.startswith(of_rewards)]


def test_rewards_are_earned_beside_the_teacher(llama: Any, teacher: Any, tmp_path: Path) -> None:
    settings = {"reward_funcs": count_of_sevens, "num_generations": 4, "total_episodes": 160}
    scores: dict[float, float] = {}
    for coef in (0.05, 20.0):
        student = confident(tiny_llama(0, VOCABULARY, **SMALL))
        folder = tmp_path / str(coef)
        trainer = distill(student, teacher, folder, teacher_coef=coef, **settings)
        trainer.train()
        lines = [line for line in trainer.state.log_history if "objective/scores" in line]
        scores[coef] = sum(line["objective/scores"] for line in lines[-3:]) / 3
    assert scores[0.05] > scores[20.0] + 0.5


def test_an_adapter_is_trained_on_one_network(
    llama: Any, teacher: Any, lora: Any, tmp_path: Path
) -> None:
    trainer = distill(llama, teacher, tmp_path, peft_config=lora, total_episodes=16)
    before = weights_of(trainer.model)
    trainer.train()
    after = weights_of(trainer.model)
    moved = {name for name, weight in after.items() if not torch.equal(weight, before[name])}
    assert moved
    assert all(".lora_" in name for name in moved)


@pytest.mark.parametrize("beta", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("chunk", [2, 10_000])
def test_loss_and_gradient_are_those_of_full_logits(
    beta: float, chunk: int, llama: Any, teacher: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In fp64; padding forbidden, the teacher asked row by row, tool tokens left out."""
    monkeypatch.setattr(logprobs, "_LEAST_TOKENS", chunk)
    monkeypatch.setattr(logprobs, "_elements_at_a_time", lambda _: 1)
    student, theirs = llama.double(), teacher.double()
    batch = _masked_batch()
    args = DistillConfig(use_cpu=True, beta=beta, temperature=0.7, teacher_coef=1.5)
    asked = Teacher(theirs, VOCABULARY, 0.7, (PAD,), 1, nullcontext)
    losses = Losses(build_actor(student), args, (PAD,), nullcontext, asked)
    loss = losses.send_back(batch, StepTotals(), trains_policy=True, is_first=True)
    found = gradients_of(student)
    expected = 1.5 * (_plain_divergences(student, theirs, batch, beta) * batch.weights).sum()
    expected.backward()
    assert float(loss) == pytest.approx(float(expected.detach()), abs=1e-6)
    for name, gradient in gradients_of(student).items():
        assert torch.allclose(found[name], gradient, atol=1e-6), name


def _masked_batch() -> Any:
    """Return a batch with tokens that are not the policy's in the middle of two rows."""
    batch = some_batch()
    prompts, completions = [[3, 4, 5], [6]], [[7, 8, 9, 10], [11, 12, 13]]
    own = [[True, False, True, True], [True, False, True]]
    sequences = Sequences.of(prompts, completions, pad=PAD, device=CPU, own=own)
    number = len(sequences.targets)
    assert number == 5
    parts = {
        name: getattr(batch, name)[:number].double()
        for name in ("weights", "logprobs", "reference", "values", "returns")
    }
    rows = sequences.mask.nonzero()[:, 0]
    return replace(batch, sequences=sequences, advantages=torch.zeros(5), rows=rows, **parts)


def _plain_divergences(student: Any, teacher: Any, batch: Any, beta: float) -> torch.Tensor:
    allowed = [token for token in range(VOCABULARY) if token != PAD]

    def probabilities(model: Any) -> torch.Tensor:
        logits = model(input_ids=batch.sequences.ids).logits[batch.sequences.predicts]
        return (logits[:, allowed] / 0.7).softmax(-1)

    p, q = probabilities(student), probabilities(teacher).detach()
    if beta == 0:
        return (q * (q / p).log()).sum(-1)
    if beta == 1:
        return (p * (p / q).log()).sum(-1)
    mixture = beta * q + (1 - beta) * p
    return (beta * q * (q / mixture).log() + (1 - beta) * p * (p / mixture).log()).sum(-1)


def test_a_batchs_rows_are_read_as_alone(teacher: Any) -> None:
    sequences = _masked_batch().sequences
    together = Teacher(teacher, VOCABULARY, 1.0, (), 8, nullcontext).logprobs(sequences)
    apart = Teacher(teacher, VOCABULARY, 1.0, (), 1, nullcontext).logprobs(sequences)
    assert torch.allclose(together, apart, atol=1e-5)


@pytest.mark.parametrize("rows", [(VOCABULARY, VOCABULARY + 8), (VOCABULARY + 8, VOCABULARY)])
def test_rows_beyond_the_tokenizer_are_no_other_vocabulary(
    rows: tuple[int, int], tmp_path: Path
) -> None:
    """The student never writes what the teacher has no row for, and hears nothing of the rest."""
    student, teacher = (
        confident(tiny_llama(seed, number, **SMALL)) for seed, number in enumerate(rows)
    )
    trainer = distill(student, teacher, tmp_path, total_episodes=32, loss_top_k=3, beta=0.5)
    trainer.train()
    assert all(
        token < VOCABULARY
        for key in range(8)
        for token in trainer.collector.sampler(student, [[3]], keys=[key], seed=0)[0].token_ids
    )
    assert trainer.evaluate()["eval_teacher/kl"] < 50  # and no infinite gap


def test_completions_of_rows_are_learnt_where_their_mask_says(
    llama: Any, teacher: Any, tmp_path: Path
) -> None:
    completion = [7, 9, 11, EOS]
    rows = [{**row, "completion_ids": completion} for row in PROMPTS]
    seen: list[Any] = []

    def watch(rollout: Any) -> dict[str, float]:
        seen.extend(rollout.rows)
        return {}

    masks = [[True, False, True, True]] * 3
    masked = [{**row, "completion_mask": mask} for row, mask in zip(rows, masks, strict=True)]
    trainer = distill(llama, teacher, tmp_path, rows=masked, lmbda=0.0, total_episodes=16)
    trainer.on_rollout = watch
    trainer.train()
    assert all(row.is_given and row.completion_ids == completion for row in seen)
    assert all(row.own.tolist() == masks[0] for row in seen)
    (first, *_) = trainer.state.log_history
    assert first["objective/given_share"] == 1
    assert first["rollout/tokens"] == 0
    assert "objective/kl" not in first  # of what the student did not write there is none
    half = distill(llama, teacher, tmp_path, rows=masked, lmbda=0.5, total_episodes=64)
    seen.clear()
    half.on_rollout = watch
    half.train()
    assert 10 < sum(row.is_given for row in seen) < 54


def test_a_teacher_with_other_tokens_is_refused(llama: Any, teacher: Any, tmp_path: Path) -> None:
    teacher.save_pretrained(tmp_path / "teacher")
    other = tiny_tokenizer(VOCABULARY)
    other.add_tokens(["extra"])
    llama.resize_token_embeddings(VOCABULARY + 1)
    tiny_tokenizer(VOCABULARY).save_pretrained(tmp_path / "teacher")
    message = "id 32 is `extra` to the student and no token to it"
    with pytest.raises(ValueError, match=message):
        distill(llama, str(tmp_path / "teacher"), tmp_path, processing_class=other)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"reward_funcs": count_of_sevens}, "write `num_generations` 2 or more"),
        ({"num_generations": 4}, "is for rewards, and there are none"),
        ({"missing_eos_penalty": 1.0}, "`missing_eos_penalty` is of rewards"),
        ({"beta": 1.5}, "`beta` is 1.5; it must be from 0 to 1"),
        ({"loss_type": "policy_gradient", "beta": 0.5}, "is of `beta` 1, not 0.5"),
        ({"loss_type": "policy_gradient", "loss_top_k": 2}, "the token that was sampled"),
        ({"gamma": 0.5}, "a divergence has none"),
        ({"dynamic_sampling": 2}, "write `num_generations` 2 or more"),
        ({"lmbda": 0.5}, "row 0 has no `completion_ids`"),
    ],
)
def test_settings_that_cannot_be_meant_are_refused(
    settings: dict[str, Any], message: str, llama: Any, teacher: Any, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=message):
        distill(llama, teacher, tmp_path, **settings)


def test_a_checkpoint_of_another_teacher_is_refused(
    llama: Any, teacher: Any, tmp_path: Path
) -> None:
    settings = {"total_episodes": 16, "save_strategy": "steps", "save_steps": 1}
    distill(llama, teacher, tmp_path, **settings).train()
    student = confident(tiny_llama(0, VOCABULARY, **SMALL))
    other = distill(student, confident(tiny_llama(3, VOCABULARY, **SMALL)), tmp_path, **settings)
    with pytest.raises(ValueError, match="digest of the teacher"):
        other.train(resume_from_checkpoint=str(tmp_path / "checkpoint-1"))


def test_the_whole_is_distilled_where_top_k_is_larger_than_the_vocabulary() -> None:
    from pipeline.rl.teacher import diverge

    drawn = torch.Generator().manual_seed(0)
    sides = [torch.randn(3, 5, generator=drawn).log_softmax(-1) for _ in range(2)]
    whole, all_of_them = (diverge(*sides, Distilled(top_k=top_k)) for top_k in (0, 9))
    assert torch.equal(whole.value, all_of_them.value)

"""Rollouts by a real vLLM server on this CPU: they are the policy's, and teach as our own do.

`make prove-vllm`. POSTTRAIN_VLLM names the Python of an environment that has vLLM.
"""

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import LlamaForCausalLM

from pipeline.config.rollout_engine import rollout_block
from pipeline.rl.config.grpo import GRPOConfig
from pipeline.rl.config.ppo import PPOConfig
from pipeline.rl.grpo import GRPOTrainer
from pipeline.rl.ppo import PPOTrainer
from pipeline.rl.sampler import Sampling
from pipeline.rl.sampling import engine_ended_after
from pipeline.rl.vllm_sampler import VLLMSampler
from pipeline.vllm import child
from tests.forked import run_forked, warm
from tests.ppo_tasks import (
    EOS,
    PAD,
    SHARED_BANDIT,
    Outcome,
    plain,
    tiny_llama,
    tiny_tokenizer,
    watch,
)
from tests.unit.rl.test_engines import largest_gap

PYTHON = os.environ.get("POSTTRAIN_VLLM")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.enable_socket,
    pytest.mark.skipif(PYTHON is None, reason="POSTTRAIN_VLLM names no Python that has vLLM"),
]
VOCABULARY, ROOM, RANK = 32, 64, 16
PROMPTS = [[3, 4], [5, 6, 7], [8], [9, 10, 11, 12, 13, 14]] * 4
# Compiled it would start in minutes; threads that are bound to cores stand in others' way.
OPTIONS = {"enforce-eager": True, "max-num-seqs": 64}
_ON_A_CPU = {
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "OMP_NUM_THREADS": "1",
}
WITHIN = 40  # rollouts
Say = Callable[[str], None]


@pytest.fixture(scope="module", autouse=True)
def small_machine() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in _ON_A_CPU.items():
            patch.setenv(name, value)
        yield


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Llama with heads of 32 dimensions, which vLLM takes; of the tasks' other sizes."""
    folder = tmp_path_factory.mktemp("base")
    module = tiny_llama(0, VOCABULARY, num_attention_heads=2)
    with torch.no_grad():  # a frozen random head could not say anything with confidence
        module.lm_head.weight.mul_(10)
    module.save_pretrained(folder)
    tiny_tokenizer(VOCABULARY).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def server(base: Path, small_machine: None) -> Iterator[child.Child]:
    """A server for all tests here, as posttrain starts one."""
    started = child.start(
        PYTHON,
        base,
        base.parent / "server.log",  # in its folder it would be a part of the model
        dtype="float32",
        rank=RANK,
        room=ROOM,
        options=OPTIONS,
    )
    try:
        started.wait(900)
        yield started
    finally:
        started.close()


@pytest.fixture
def say(capsys: pytest.CaptureFixture[str]) -> Say:
    """Print a figure of a test, whatever is captured."""

    def said(figure: str) -> None:
        with capsys.disabled():
            print(f"\n{figure}")

    return said


def policy_of(base: Path) -> Any:
    module = LlamaForCausalLM.from_pretrained(base, dtype=torch.float32)
    torch.manual_seed(0)
    return get_peft_model(module, LoraConfig(r=RANK, target_modules="all-linear"))


def how(**changes: Any) -> Sampling:
    usual = {"max_new_tokens": 12, "temperature": 1.0, "pad_token_id": PAD}
    return Sampling(**{**usual, "eos_token_ids": frozenset({EOS}), **changes})


def sampler_of(
    server: child.Child, folder: Path, sampling: Sampling, **options: Any
) -> VLLMSampler:
    return VLLMSampler(
        sampling,
        rollout_block({"url": server.url, **options}),
        folder=folder / "vllm",
        dtype="float32",
        tokenizer=tiny_tokenizer(VOCABULARY),
    )


def move(policy: Any, seed: int) -> None:
    torch.manual_seed(seed)
    for name, parameter in policy.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.3)


def test_what_it_samples_follows_the_adapter_that_it_is_sent(
    server: child.Child, base: Path, tmp_path: Path, say: Say
) -> None:
    """Its log-probabilities are those of one pass by transformers, for each adapter in turn."""
    policy, sampling = policy_of(base).eval(), how(temperature=0.8, forbidden_ids=(PAD,))
    sampler, gaps, drawn = sampler_of(server, tmp_path, sampling), [], []
    with engine_ended_after(sampler):
        for number in range(4):
            move(policy, number % 3)
            found = sampler(policy, PROMPTS, keys=range(16), seed=0)
            gaps.append(largest_gap(policy, found, sampling, PROMPTS))
            drawn.append([one.token_ids for one in found])
        with policy.disable_adapter():
            theirs = sampler(policy.get_base_model(), PROMPTS, keys=range(16), seed=0)
            gaps.append(largest_gap(policy, theirs, sampling, PROMPTS))
    say(f"largest gaps of log-probabilities, in nats: {gaps}")
    assert max(gaps) < 1e-3
    assert drawn[0] != drawn[1] != drawn[2]
    # The same adapter again; a rounding may turn a draw, not all of them.
    assert sum(one == other for one, other in zip(drawn[0], drawn[3], strict=True)) >= 12
    assert len({tuple(row) for row in drawn[0][::4]}) > 1  # one prompt, several keys


def test_it_computes_in_the_precision_that_it_was_told(server: child.Child) -> None:
    """Left to itself it would serve an fp32 policy in bf16."""
    assert "dtype=torch.float32" in server.log.read_text()


def learn(method: str, base: Path, folder: Path, **engine: Any) -> Outcome:
    """Train an adapter on the bandit until it is learnt, by GRPO or PPO."""

    def reward(completion_ids: list[list[int]], asked: list[list[int]], **_: Any) -> list[float]:
        return [SHARED_BANDIT.reward(a, c) for a, c in zip(asked, completion_ids, strict=True)]

    usual = {
        **{"seed": 0, "lr_scheduler_type": "constant", "scoring_batch_size": 256},
        **{"max_completion_length": 8, "per_device_train_batch_size": 32},
        **{"total_episodes": 64 * WITHIN},
    }
    rows = [{"input_ids": ids, "asked": ids} for ids in SHARED_BANDIT.prompts]
    tokenizer, policy = tiny_tokenizer(VOCABULARY), policy_of(base)
    if method == "grpo":
        groups = {"num_generations": 8, "generation_batch_size": 64, "num_iterations": 2}
        args: Any = GRPOConfig(
            **{**plain(folder), **usual, **groups, **engine, "learning_rate": 1e-2}
        )
        trainer: Any = GRPOTrainer(policy, reward, args, rows, processing_class=tokenizer)
    else:
        epochs = {"num_mini_batches": 2, "num_ppo_epochs": 2, "kl_coef": 0.0}
        args = PPOConfig(**{**plain(folder), **usual, **epochs, **engine, "learning_rate": 5e-3})
        trainer = PPOTrainer(policy, [reward], args, rows, tokenizer)
    with engine_ended_after(trainer.collector.sampler):
        return watch(trainer, SHARED_BANDIT)


@pytest.mark.parametrize("method", ["grpo", "ppo"])
def test_a_task_is_learnt_as_by_our_own_loop(
    method: str, server: child.Child, base: Path, tmp_path: Path, say: Say
) -> None:
    engine = {"rollout_engine": "vllm", "vllm_options": {"url": server.url}}
    outcomes = {
        "own": learn(method, base, tmp_path / "own"),
        "vllm": learn(method, base, tmp_path / "vllm", **engine),
    }
    for name, outcome in outcomes.items():
        curve = " ".join(f"{line['objective/scores']:.2f}" for line in outcome.lines)
        gap = max(line["rollout/logp_gap"] for line in outcome.lines)
        say(
            f"{method} {name}: learnt after {outcome.learnt_after}: {curve} (largest gap {gap:.1e})"
        )
    assert all(outcome.learnt_after is not None for outcome in outcomes.values())
    lines = outcomes["vllm"].lines
    assert max(line["rollout/logp_gap"] for line in lines) < 1e-3
    assert max(abs(line["importance/mean"] - 1) for line in lines) < 1e-2
    assert max(abs(line["policy/ratio_first"] - 1) for line in lines) < 1e-4


def test_whole_weights_arrive(server: child.Child, base: Path, tmp_path: Path, say: Say) -> None:
    """The last test of this server: it serves other weights afterwards."""
    module = LlamaForCausalLM.from_pretrained(base, dtype=torch.float32).eval()
    sampler, gaps = sampler_of(server, tmp_path, how()), []
    for _ in range(2):
        with torch.no_grad():
            for parameter in module.parameters():
                parameter.add_(0.05 * torch.randn_like(parameter))
        found = sampler(module, PROMPTS, keys=range(16), seed=0)
        gaps.append(largest_gap(module, found, how(), PROMPTS))
    sampler.close()
    say(f"largest gaps after all weights were sent, in nats: {gaps}")
    assert max(gaps) < 1e-3


RECIPE = """\
name: killed
seed: 3
stages:
  grpo:
    stage: grpo
    model: %s
    prompts: {file: asked.jsonl, holdout: 0.2}
    reward: {use: "pays:for_seven"}
    batch_size: 8
    best_of: 2
    lora: {r: 4}
    rollout: {engine: vllm, python: %s, server_args: {enforce-eager: true, max-num-seqs: 16}}
    training_args: {max_completion_length: 4, num_generations: 4, total_episodes: 48,
                    learning_rate: 1e-2, save_steps: 1, per_device_train_batch_size: 8}
"""
# The third rollout's rewards kill the server, engine and all, once.
REWARD = """\
import os, pathlib, signal

HERE = pathlib.Path(__file__).parent
CALLS = []


def for_seven(completion_ids, **rest):
    CALLS.append(1)
    done = HERE / "killed"
    if len(CALLS) == 3 and not done.exists():
        done.touch()
        for process in pathlib.Path("/proc").glob("[0-9]*"):
            try:
                words = (process / "cmdline").read_bytes()
            except OSError:
                continue
            if b"openai.api_server" in words and str(HERE).encode() in words:
                os.killpg(os.getpgid(int(process.name)), signal.SIGKILL)
    return [float(7 in each) for each in completion_ids]
"""


def test_a_killed_server_is_one_line_and_the_stage_goes_on(
    base: Path, tmp_path: Path, say: Say
) -> None:
    warm()
    rows = ({"prompt": f"t{number} t4"} for number in range(2, 32))
    (tmp_path / "asked.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    (tmp_path / "pays.py").write_text(REWARD)
    (tmp_path / "killed.yaml").write_text(RECIPE % (base, PYTHON))
    ended = run_forked(tmp_path / "killed.yaml", tmp_path / "runs")
    assert ended.code == 3, ended.output
    said = [line for line in ended.output.splitlines() if "vLLM server" in line]
    say("\n".join(said))
    assert said
    again = run_forked(tmp_path / "killed.yaml", tmp_path / "runs")
    assert again.code == 0, again.output
    assert "resumes from checkpoint-" in again.output
    artifact = tmp_path / "runs" / "killed" / "grpo" / "artifact.json"
    metrics = json.loads(artifact.read_text())["metrics"]
    say(f"afterwards: {metrics['steps']} steps, largest gap {metrics['logp_gap']:.1e}")
    assert metrics["logp_gap"] < 1e-3

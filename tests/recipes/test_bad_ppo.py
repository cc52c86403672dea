"""Bad ppo stages through the command: exit code 2 and one line that points at its place.

The mark ‸ in a text is where its error must point; `...` in a sentence is anything.
"""

import json
from pathlib import Path

import pytest

from tests.command import Command, is_like, the_line
from tests.recipes.test_bad_recipes import expected

RECIPE = """\
name: bad
stages:
  tokenizer: {stage: tokenizer, data: {task: arithmetic}, vocab_size: 300}
  base:
    stage: pretrain
    model: {architecture: llama, tokenizer: $tokenizer, hidden_size: 32, num_hidden_layers: 2,
            max_position_embeddings: 1024}
    data: [{task: arithmetic}]
    tokens: 20k
    sequence_length: 64
  sft: {stage: sft, model: $base, data: [{task: arithmetic, rows: 160}]}
  preference: {stage: reward_model, model: $sft, data: [{task: arithmetic}]}
  ppo:
    stage: ppo
    model: $sft
    prompts: [{task: arithmetic}, {task: facts}, {file: asked.jsonl, holdout: 0.2}]
    reward:
      - {model: $preference, weight: 0.5}
      - {use: my_rewards:brevity, on: [facts, asked.jsonl]}
      - {verify: [arithmetic, facts]}
    critic: reward
    kl: {coef: 0.1, target: 6}
    training_args: {num_mini_batches: 2}
  more: {stage: ppo, model: $ppo, prompts: {task: facts}, reward: {verify: all}, critic: $ppo}
"""
REWARDS = """\
def brevity(completions, **rest):
    return [-len(each) for each in completions]


async def slow(completions, **rest):
    return [0.0] * len(completions)


def narrow(prompts, completions):
    return [0.0] * len(completions)
"""
PROMPTS = "[{task: arithmetic}, {task: facts}, {file: asked.jsonl, holdout: 0.2}]"
MODEL = "{model: $preference, weight: 0.5}"
USE = "{use: my_rewards:brevity, on: [facts, asked.jsonl]}"
VERIFY = "{verify: [arithmetic, facts]}"
KL = "kl: {coef: 0.1, target: 6}"
CRITIC = "critic: reward"
ARGS = "{num_mini_batches: 2}"
ALL = "reward: {verify: all}"

# Part of RECIPE, what stands there instead, what must be said of it.
TERMS = [
    (MODEL, "{‸modle: $preference}", "unknown key `modle`; did you mean `model`?"),
    (MODEL, "‸{weight: 2}", "a reward is exactly one of `model`, `use`, `verify`, `judge`"),
    (MODEL, "‸{model: $preference, verify: all}", "this has `model` and `verify`"),
    (MODEL, "{model: $preference, weight: ‸.nan}", "`weight` is nan; write a finite number"),
    (MODEL, "{model: $preference, weight: ‸'1'}", "`weight` is `1`, not a number; write it"),
    (MODEL, "{model: $preference, name: ‸my reward}", "`my reward` cannot be `name`; use letters"),
    (MODEL, "{model: ‸$prefrence}", "no stage `prefrence`; did you mean `preference`?"),
    (MODEL, "{model: ‸$sft}", "`$sft` gives a model, here a reward model is needed; that is"),
    (MODEL, "{model: ‸preference}", "neither a folder nor a hub id; ...; did you mean `$pref"),
    (MODEL, "{model: ‸./policy}", "`./policy` is a language model, here a reward model is needed"),
    (MODEL, "{model: ‸./nowhere}", "there is no folder `./nowhere`; looked for"),
    (MODEL, "{model: $preference}\n      - ‸{model: $preference}", "two rewards are called `pref"),
    (USE, "{use: ‸my_reward:brevity}", "no file my_reward.py ...; did you mean `my_rewards`?"),
    (USE, "{use: ‸my_rewards:brevty}", "my_rewards.py has no `brevty`; did you mean `brevity`?"),
    (USE, "{use: ‸my_rewards.brevity}", "is not of the form `module:name`; write `a.b:c`"),
    (USE, "{use: ‸broken:f}", "`broken:f`: broken.py:2: ..."),
    (USE, "{use: ‸my_rewards:narrow}", "my_rewards.py:9: it does not take `completion_ids`; ..."),
    (USE, "{use: my_rewards:brevity, on: [‸fact]}", "`fact` is no source of these prompts; did"),
    (USE, "{use: my_rewards:brevity, on: ‸asked}", "no source of these prompts; did you mean `ask"),
    (USE, "{use: my_rewards:brevity, on: ‸[]}", "`on` is empty; name sources of the prompts"),
    (VERIFY, "{verify: [facts, ‸sql]}", "`sql` is no task of these prompts; there are arithmetic,"),
    (VERIFY, "{verify: ‸fatcs}", "`fatcs` is no task of these prompts; did you mean `facts`?"),
    (VERIFY, "{verify: facts, on: ‸facts}", "`on` has no meaning beside `verify`, which names"),
    (CRITIC, "critic: reward\n    ‸rewards: 1", "unknown key `rewards`; did you mean `reward`?"),
    ("reward: {verify: all}", "reward: ‸[]", "`reward` is empty; write at least one"),
    ("reward: {verify: all}", "reward: ‸facts", "`reward` is `facts`, not a mapping; its keys are"),
    ("prompts: {task: facts}, ", "prompts: {file: asked.jsonl}, ", "so there is nothing to verify"),
    ("prompts: {task: facts}, reward: {verify: all}",
     "prompts: [{task: facts}, ‸{file: asked.jsonl}], reward: {verify: all}",
     "no reward is for the prompts of `asked.jsonl`; add one to `reward`, or name them in the"),
]  # fmt: skip
REST = [
    (f"prompts: {PROMPTS}\n", f"‸data: {PROMPTS}\n", "unknown key `data`; "),
    (PROMPTS, "{task: arithmetic, split: ‸test}", "the split `test` is for evaluation only"),
    (PROMPTS, "{hub: a/b, split: ‸test}", "the split `test` is for evaluation only; use train"),
    (PROMPTS, "{task: arithmetic, form: ‸text}", "`form` text is not what this stage reads; leave"),
    ("{file: asked.jsonl, holdout: 0.2}]", "{file: asked.jsonl}, {file: ‸aksed.jsonl}]",
     "`aksed.jsonl` does not exist; did you mean `asked.jsonl`?"),
    (CRITIC, "critic: ‸rewrd", "`rewrd` is neither a folder nor a hub id; ...mean `reward`?"),
    (CRITIC, "critic: ‸$sft", "`$sft` has no critic, it is of the kind sft; write `policy`"),
    (CRITIC, "critic: ‸$tokenizer", "`$tokenizer` gives a tokenizer, here a model or a reward"),
    (CRITIC, "critic: ‸./policy", "the folder `./policy` holds no critic: it has no value_head"),
    (CRITIC, "critic: ‸owner/name", "is a hub id; a critic is a stage's or lies in a folder"),
    (", critic: $ppo", ", critic: ‸reward", "there is no reward model among the rewards for the"),
    (KL, "kl: {coef: 0.1, target: ‸0}", "`target` is 0; it must be above 0"),
    (KL, "kl: {coef: ‸-0.1}", "`coef` is -0.1; it must be at least 0"),
    (KL, "kl: {coef: ‸0, target: 6}", "`coef` 0 stays 0 however it is steered; write one above 0"),
    (KL, "kl: {horizon: ‸5}", "`horizon` is for steering towards a `target`; write one"),
    (KL, "kl: {estimator: ‸k4}", "`estimator` is `k4`, not `k1`, `k2` or `k3`; write one of"),
    (KL, "‸kl_coef: 0.1", "unknown key `kl_coef`; write `kl: {coef: ...}` on the stage"),
    (KL, "‸temperature: 0.7", "write it below `training_args:`, it is a field of PPOConfig"),
    (KL, "reward_clip: ‸[5, -5]", "`reward_clip` goes from 5 to -5; write [low, high]"),
    (KL, "reward_normalisation: ‸runing", "`none`, `running` or `fixed`; did you mean `running`?"),
    (KL, "eos_penalty_mode: ‸replace", "says how `missing_eos_penalty` is used; write one"),
    (KL, "missing_eos_penalty: ‸-1", "`missing_eos_penalty` is -1; it must be at least 0"),
    (KL, "reward_gate: ‸false", "`reward_gate` is false, not `on` or `off`"),
    (KL, "best_of: ‸1", "`best_of` 1 is no choice; write 2 or more, or 0 to leave it out"),
    (KL, "precision: ‸fp16", "`precision` fp16 underflows in ratios; write bf16 or fp32"),
    (KL, "lora: {r: 4, bias: ‸all}", "`bias` all changes the network that the reference shares"),
    (KL, "lora: ‸{r: 4, target_modules: [q_proj, lm_head]}", "take `lm_head` out of the adapter"),
    (ARGS, "{‸num_minibatches: 2}", "no field `num_minibatches`; did you mean `num_mini_batches`"),
    (ARGS, "{‸kl_coef: 0.1}", "cannot be set in `training_args`; write `kl: {coef: ...}` on the"),
    (ARGS, "{‸reward_weights: [1.0]}", "write `weight:` in each block of `reward:`"),
    (ARGS, "{‸missing_eos_penalty: 1.0}", "cannot be set in `training_args`; write it on the"),
    (ARGS, "{‸top_p: 0.9}", "PPOConfig has no field `top_p`; responses are sampled from the whole"),
    (ARGS, "{‸response_length: 53}", "no field `response_length`; did you mean `max_completion_l"),
    (ARGS, "{‸eval_strategy: epoch}", "optimizer steps and rollouts are counted"),
    (ALL, f"{ALL}, eval_data: [‸{{file: asked.jsonl}}]", "no reward is for the prompts of `asked"),
    (KL, "early_stopping: ‸{patience: 2}", "needs evaluation during training"),
    (ARGS, "{‸gradient_accumulation_steps: 2}", "it is derived; write the global `batch_size`"),
    (ARGS, "{‸num_mini_batches: 0}", "`num_mini_batches` is 0; it must be above 0"),
    (ARGS, "{‸lam: 1.5}", "`lam` is 1.5; it must be at most 1"),
    (ARGS, "{‸temperature: 0}", "`temperature` is 0; it must be above 0"),
    (ARGS, "{‸total_episodes: 10k}", "`total_episodes` is `10k`, not a whole number"),
    (ARGS, "{layout: ‸shared_lora}", "`layout: shared_lora` trains adapters, and there is no `l"),
    (ARGS, "{max_completion_length: ‸1024}", "1024 is beyond the 1024 positions of `$sft`; lower"),
]  # fmt: skip
STOP = f"{CRITIC}\n    stop_when: "
SIGNS = [
    (CRITIC, STOP + "{‸lenght: true}", "did you mean `length`?"),
    (CRITIC, STOP + "{length: ‸0.5}", "`length` is 0.5; write a factor above 1"),
    (CRITIC, STOP + "{kl: ‸true}", "`kl` has no bound that suits every training; write a number"),
    (CRITIC, STOP + "{distinct: ‸0.3}", "`distinct` compares the responses to one prompt, and"),
    (
        CRITIC,
        f"{CRITIC}\n    gold: false\n    stop_when: {{over_optimised: ‸true}}",
        "nothing tells whether responses become worse: no prompts of a task with `gold: true`, and",
    ),
    (ARGS, "{‸stop_when: {length: true}}", "`stop_when`"),
]
EDITS = [*TERMS, *REST, *SIGNS]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a good recipe and what the cases name."""
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    (tmp_path / "my_rewards.py").write_text(REWARDS)
    (tmp_path / "broken.py").write_text("def f(completions, **rest):\nreturn 1\n")
    rows = ({"prompt": f"Say {number}."} for number in range(20))
    (tmp_path / "asked.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    (tmp_path / "policy").mkdir()
    config = {"model_type": "llama", "architectures": ["LlamaForCausalLM"]}
    (tmp_path / "policy" / "config.json").write_text(json.dumps(config))
    return tmp_path


def test_the_recipe_that_the_cases_spoil_is_good(folder: Path, posttrain: Command) -> None:
    said = posttrain("check", "recipe.yaml")
    assert said.code == 0, said
    assert "ppo: asked.jsonl: 1" in said.out
    assert posttrain("plan", "recipe.yaml").code == 0


@pytest.mark.parametrize(("old", "new", "words"), EDITS, ids=[case[1] for case in EDITS])
def test_a_bad_ppo_stage_gives_one_line_that_points_at_its_place(
    folder: Path, posttrain: Command, old: str, new: str, words: str
) -> None:
    assert RECIPE.count(old) == 1
    marked = RECIPE.replace(old, new)
    (folder / "recipe.yaml").write_text(marked.replace("‸", ""))
    line = the_line(posttrain("plan", "recipe.yaml"))
    assert is_like(line, expected(marked, words)), line

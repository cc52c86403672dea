"""Ask TRL 1.12.0's PPOTrainer what it computes of the batch in case.py; keep it as a fixture.

    pip install --no-deps --target FOLDER trl==1.12.0
    python -m tests.oracle.derive --trl FOLDER --out tests/oracle/trl_1_12.npz

In a process of its own: the trl that we depend on has the same name. The trainer runs unmodified
but for its sampling, in place of which it is given the responses of case.py; what it computed is
read from `train`'s own variables, where it whitens advantages and where it sends losses back.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

from tests.oracle import case

_EPOCHS = 3  # the first has a ratio of 1 everywhere; in the others tokens and values are clipped
_LEARNING_RATE = 0.003

# Names of train()'s variables at the moment it whitens advantages, and ours.
_OF_THE_ROLLOUT = {
    "queries": "query_ids",
    "responses": "response_ids",
    "logprobs": "logprobs",
    "ref_logprobs": "reference_logprobs",
    "values": "values",
    "scores": "scores",
    "rewards": "rewards",
    "advantages": "advantages",
    "returns": "returns",
    "padding_mask": "is_padding",
    "padding_mask_p1": "is_padding_after_one",
}
# At the moment it sends a loss back.
_OF_A_STEP = {
    "new_logprobs": "logprobs",
    "vpred": "values",
    "pg_loss": "policy_loss",
    "vf_loss": "value_loss",
    "loss": "loss",
}


def derive(trl: Path) -> dict[str, np.ndarray]:
    """Train for one rollout and return what was computed, rows in the order of case.py."""
    sys.path.insert(0, str(trl))
    import trl as package
    from datasets import Dataset
    from trl.experimental.ppo import (  # pyright: ignore[reportMissingImports]
        PPOConfig,
        PPOTrainer,
        ppo_trainer,
    )

    if package.__version__ != "1.12.0":
        raise ValueError(f"{trl} has trl {package.__version__}, not 1.12.0")
    weights = case.make_weights()
    prompts = case.prompts()
    reward = case.scorer(weights["reward"])
    with tempfile.TemporaryDirectory() as folder:
        trainer = PPOTrainer(
            args=PPOConfig(
                output_dir=folder,
                per_device_train_batch_size=len(prompts),
                gradient_accumulation_steps=1,
                num_mini_batches=1,
                num_ppo_epochs=_EPOCHS,
                total_episodes=len(prompts),
                response_length=case.RESPONSE_LENGTH,
                stop_token="eos",
                learning_rate=_LEARNING_RATE,
                num_sample_generations=0,
                save_strategy="no",
                report_to="none",
                bf16=False,
                gradient_checkpointing=False,
                disable_tqdm=True,
                **case.SETTINGS,
            ),
            processing_class=SimpleNamespace(pad_token_id=case.PAD, eos_token_id=case.EOS),  # type: ignore[arg-type]
            model=case.causal(weights["policy"]),
            ref_model=case.causal(weights["reference"]),
            reward_model=reward,
            value_model=case.scorer(weights["critic"]),
            train_dataset=Dataset.from_dict({"input_ids": prompts}),
            data_collator=_left_padded,  # type: ignore[arg-type]
        )
        captured = _watched(ppo_trainer, trainer, reward)
        trainer.train()
    order = np.argsort(captured.pop("order"))
    found = {name: value[order] if np.ndim(value) else value for name, value in captured.items()}
    found |= {f"weights/{name}": vector for name, vector in weights.items()}
    return found | {"settings": np.array(case.settings_line())}


def _watched(module: Any, trainer: Any, reward: torch.nn.Module) -> dict[str, np.ndarray]:
    """Inject the responses, and return a dictionary that training fills."""
    captured: dict[str, np.ndarray] = {}
    whiten, get_reward = module.masked_whiten, module.get_reward
    backward, steps = trainer.accelerator.backward, iter(range(_EPOCHS))

    def batch_generation(model: Any, queries: torch.Tensor, *_: Any) -> tuple[Any, Any]:
        prompts, responses = case.prompts(), case.responses()
        order = [prompts.index(row[row != case.PAD].tolist()) for row in queries]
        captured["order"] = np.array(order)
        rows = torch.full((len(queries), case.RESPONSE_LENGTH), case.PAD)
        for row, number in enumerate(order):
            rows[row, : len(responses[number])] = torch.tensor(responses[number])
        both = torch.cat([queries, rows], dim=1)
        logits = module.forward(model, both, case.PAD).logits[:, queries.shape[1] - 1 : -1]
        return both, logits / (case.SETTINGS["temperature"] + 1e-7)

    def masked_whiten(values: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        of_train = sys._getframe(1).f_locals
        captured.update({ours: _copied(of_train[name]) for name, ours in _OF_THE_ROLLOUT.items()})
        whitened = whiten(values, mask)
        captured["whitened"] = _copied(whitened)
        return whitened

    def reward_of(model: Any, *arguments: Any) -> Any:
        found = get_reward(model, *arguments)
        if model is reward:
            captured["scores_before_penalty"] = _copied(found[1])
        return found

    def send_back(loss: torch.Tensor) -> None:
        of_train, step = sys._getframe(1).f_locals, next(steps)
        rows = np.argsort(of_train["micro_batch_inds"])  # as they were in the rollout
        for name, ours in _OF_A_STEP.items():
            value = _copied(of_train[name])
            captured[f"step/{step}/{ours}"] = value[rows] if value.ndim else value
        backward(loss)

    def log(metrics: dict[str, float]) -> None:
        known = {name: value for name, value in metrics.items() if name != "eps"}  # a speed
        captured.update({f"logged/{name}": np.array(value) for name, value in known.items()})

    module.batch_generation, module.masked_whiten = batch_generation, masked_whiten
    module.get_reward, trainer.accelerator.backward = reward_of, send_back
    trainer.log = log
    return captured


def _left_padded(rows: list[dict[str, list[int]]]) -> dict[str, torch.Tensor]:
    width = max(len(row["input_ids"]) for row in rows)
    padded = [[case.PAD] * (width - len(row["input_ids"])) + row["input_ids"] for row in rows]
    return {"input_ids": torch.tensor(padded)}


def _copied(x: torch.Tensor) -> np.ndarray:
    return x.detach().clone().numpy()


def main() -> None:
    """Write the fixture."""
    parser = argparse.ArgumentParser(prog="python -m tests.oracle.derive")
    parser.add_argument("--trl", type=Path, required=True, help="folder with trl 1.12.0 alone")
    parser.add_argument("--out", type=Path, required=True, help="file of tensors, .npz")
    given = parser.parse_args()
    os.environ |= {
        "CUDA_VISIBLE_DEVICES": "",
        "HF_HUB_OFFLINE": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "TRL_EXPERIMENTAL_SILENCE": "1",
    }
    torch.set_num_threads(1)
    np.savez_compressed(given.out, **derive(given.trl), allow_pickle=False)


if __name__ == "__main__":
    main()

"""What a PPO checkpoint has beside transformers' own: both models and the state between them.

policy at the root (whole or an adapter), `critic/`, `ppo_state.json`, and in the middle of a
rollout `rollout.safetensors`. No pickles. The reference is not in it: it is the policy as training
began, which the trainer is made with again; a digest shows whether it is the same.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from transformers.trainer import OPTIMIZER_NAME

from pipeline.rl.actor_critic import CRITIC
from pipeline.rl.experience import Experience
from pipeline.rl.resume_settings import check_made_with

if TYPE_CHECKING:
    from pathlib import Path

    from pipeline.rl.trainer import PPOTrainer

STATE = "ppo_state.json"
BUFFER = "rollout.safetensors"


def save(trainer: PPOTrainer, folder: Path) -> None:
    """Write policy, critic and state into a folder; of all processes one calls this."""
    folder.mkdir(parents=True, exist_ok=True)
    trainer.model.save_policy(folder)
    trainer.model.save_critic(folder / CRITIC)
    state = {
        "rollout": trainer.rollout,
        "kl": trainer.kl.state_dict(),
        "rewards": trainer.rewards.state_dict(),
        "metrics": trainer.rollout_metrics,
        "totals": trainer.totals.whole,
        "is_cut_short": trainer.is_cut_short,
        "notes": trainer.notes,
        "made_with": trainer.made_with(),
    }
    (folder / STATE).write_text(json.dumps(state), encoding="utf-8")
    if trainer.experience is not None:
        trainer.experience.save(folder / BUFFER)


def load(trainer: PPOTrainer, folder: Path) -> None:
    """Take up where `save` was called.

    Raises ValueError for what is no whole checkpoint of PPO, and for one that was made with other
    settings.
    """
    if not (folder / STATE).is_file():
        raise ValueError(f"`{folder}` is no checkpoint of PPO: it has no {STATE}")
    if not (folder / OPTIMIZER_NAME).is_file():
        raise ValueError(
            f"`{folder}` cannot be resumed: it has no {OPTIMIZER_NAME}, as with `save_only_model`; "
            "begin anew with it as the model"
        )
    state = json.loads((folder / STATE).read_text(encoding="utf-8"))
    check_made_with(state["made_with"], trainer.made_with())
    load_weights(trainer, folder)
    trainer.rollout = state["rollout"]
    trainer.kl.load_state_dict(state["kl"])
    trainer.rewards.load_state_dict(state["rewards"])
    trainer.rollout_metrics = state["metrics"]
    trainer.totals.whole = state["totals"]
    trainer.is_cut_short = state["is_cut_short"]
    trainer.notes = state["notes"]
    buffer = folder / BUFFER
    trainer.experience = Experience.load(buffer) if buffer.is_file() else None


def load_weights(trainer: PPOTrainer, folder: Path) -> None:
    """Take policy and critic from a checkpoint; the state between them stays as it is."""
    trainer.model.load_policy(folder)
    trainer.model.load_critic(folder / CRITIC)

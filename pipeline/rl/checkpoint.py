"""What a checkpoint of reinforcement learning has beside transformers' own: weights and RlState.

Policy at the root (whole or an adapter), `critic/` if there is one, `rl_state.json`, and in the
middle of a rollout `rollout.safetensors`. No pickles. The reference is not in it: it is the policy
as training began, which the trainer is made with again; a digest shows whether it is the same.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from transformers.trainer import OPTIMIZER_NAME

from pipeline.rl.actor_critic import CRITIC, ActorCritic
from pipeline.rl.experience import Experience
from pipeline.rl.resume_settings import check_made_with
from pipeline.rl.split_moments import PARTS

if TYPE_CHECKING:
    from pathlib import Path

    from pipeline.rl.actor import Actor
    from pipeline.rl.state import RlState

STATE = "rl_state.json"
BUFFER = "rollout.safetensors"


def save(folder: Path, actor: Actor, state: RlState, made_with: dict[str, Any]) -> None:
    """Write policy, critic and state into a folder; only one of all processes calls this.

    made_with: the settings that a run which resumes must have, as JSON.
    """
    save_weights(folder, actor)
    text = json.dumps({**state.to_json(), "made_with": made_with})
    (folder / STATE).write_text(text, encoding="utf-8")
    if state.experience is not None:
        state.experience.save(folder / BUFFER)


def load(folder: Path, actor: Actor, state: RlState, made_with: dict[str, Any]) -> None:
    """Fill an actor and a state as `save` found them.

    Raises ValueError for a folder that is not a whole checkpoint, and for one that was made
    with other settings; then nothing has been changed.
    """
    if not (folder / STATE).is_file():
        raise ValueError(f"`{folder}` is no checkpoint of training on rollouts: it has no {STATE}")
    if not any((folder / name).exists() for name in (OPTIMIZER_NAME, PARTS)):
        raise ValueError(
            f"`{folder}` cannot be resumed: it has no {OPTIMIZER_NAME}, as with `save_only_model`; "
            "begin anew with it as the model"
        )
    saved = json.loads((folder / STATE).read_text(encoding="utf-8"))
    check_made_with(saved["made_with"], made_with)
    load_weights(folder, actor)
    buffer = folder / BUFFER
    state.take_json(saved, Experience.load(buffer) if buffer.is_file() else None)


def save_weights(folder: Path, actor: Actor) -> None:
    """Write policy and critic into a folder, which `load_weights` takes them from."""
    folder.mkdir(parents=True, exist_ok=True)
    actor.save_policy(folder)
    if isinstance(actor, ActorCritic):
        actor.save_critic(folder / CRITIC)


def load_weights(folder: Path, actor: Actor) -> None:
    """Take policy and critic from a checkpoint; the state between them stays as it is."""
    actor.load_policy(folder)
    if isinstance(actor, ActorCritic):
        actor.load_critic(folder / CRITIC)

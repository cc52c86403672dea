"""What a critic begins as: the policy's network, a reward model, or the critic of an earlier run.

A reward model's score becomes a value by its head; what a rollout's scores are of it (a weight,
other terms, their normalisation) is known after the first rollout, and then the head is brought to
that scale. A critic of an earlier run says which values it gave, so that one on another network
than its own is noticed.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from accelerate.utils import is_peft_model
from torch import nn

from pipeline.files.names import ADAPTER_CONFIG, CONFIG, VALUE_HEAD
from pipeline.models.frozen import thaw
from pipeline.rl.actor_critic import CRITIC

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from pipeline.rewards.composition import RewardComposition
    from pipeline.rl.actor_critic import ActorCritic
    from pipeline.rl.rollout import ScoredRow

Kind = Literal["policy", "network", "adapter"]


@dataclass(frozen=True)
class CriticStart:
    """What a critic begins as; as it is, the policy's network as it comes in, with a head of zeros.

    network: below the head; the critic trains a copy of it. adapter: config and tensors, on the
    policy's network as it comes in, which both then share. score: a reward model's head, (1, d).
    folder: of a critic that was saved, for its head; where `network` and `adapter` are None, for
    its network too, if it has one. term: which term of the reward its score is, None for none.
    scale: of an ensemble that the reward model is one of, (mean, deviation): what the term makes of
    its score.
    """

    network: Any = None
    adapter: tuple[Any, dict[str, Tensor]] | None = None
    score: Tensor | None = None
    folder: Path | None = None
    term: int | None = None
    scale: tuple[float, float] = (0.0, 1.0)

    @property
    def kind(self) -> Kind:
        """Where its network comes from; a folder with a head alone has it on the policy's."""
        if self.network is not None or (self.folder and (self.folder / CONFIG).is_file()):
            return "network"
        return "policy" if self.adapter is None else "adapter"

    def start(self, actor: ActorCritic) -> None:
        """Fill head and network of an actor that was made for it; ValueError if they do not fit."""
        actor.critic_term = self.term
        actor.critic_is_scored = self.score is not None
        if self.score is not None:
            mean, deviation = self.scale
            actor.value_head.start_from(self.score)
            actor.value_head.rescale(1 / deviation, -mean / deviation)
        elif self.folder is not None:
            is_whole = self.network is None and self.kind == "network"
            load = actor.load_critic if is_whole else actor.value_head.load
            try:
                load(self.folder)
            except (RuntimeError, OSError) as error:
                first = str(error).strip().splitlines()[-1].strip()[:200]
                message = f"the critic `{self.folder}` does not fit this model: {first}"
                raise ValueError(message) from error
            actor.check_probe(self.folder)


def find_saved_critic(name: str | Path) -> Path:
    """Return the folder of a critic: itself, or below that of its policy. ValueError for none."""
    folder = Path(name)
    folder = folder / CRITIC if (folder / CRITIC).is_dir() else folder
    if not (folder / VALUE_HEAD).is_file():
        raise ValueError(f"`{name}` holds no critic: it has no {VALUE_HEAD}")
    return folder


def has_adapter(folder: Path) -> bool:
    """Whether a saved critic is an adapter."""
    return (folder / ADAPTER_CONFIG).is_file()


def start_from_reward_model(module: Any, term: int | None) -> CriticStart:
    """Return a critic that begins as a sequence classifier; ValueError for one that cannot."""
    whole = module
    if is_peft_model(module):
        _refuse_quantised(module)
        whole = copy.deepcopy(module).merge_and_unload()
    _refuse_quantised(whole)
    if not hasattr(whole, "score"):
        return CriticStart(network=getattr(whole, "base_model", whole))
    score = whole.score
    weight: Any = score.weight if isinstance(score, nn.Module) else score
    return CriticStart(network=whole.base_model, score=weight.detach(), term=term)


def start_from_folder(folder: Path, policy: Any, *, is_shared: bool) -> CriticStart:
    """Return a critic that was saved; an adapter is one of the policy's network.

    is_shared: whether it stays an adapter there.
    """
    if not has_adapter(folder):
        return CriticStart(folder=folder)
    from pipeline.models import adapters

    if is_shared:
        return CriticStart(adapter=adapters.relative(folder, None), folder=folder)
    network = adapters.merge(copy_without_adapters(policy), folder)
    return CriticStart(network=network.base_model, folder=folder)


def copy_without_adapters(policy: Any) -> Any:
    """Return a copy of a causal language model, without adapters, that can be trained."""
    copied: Any = copy.deepcopy(policy)
    return thaw(copied.unload() if is_peft_model(policy) else copied)


def scale_to_scores(
    actor: ActorCritic, rows: Sequence[ScoredRow], rewards: RewardComposition
) -> list[ScoredRow]:
    """Make a critic that began as a reward model predict scores; return rows with its new values.

    Once, after its first rollout and before its first step. A score is (w r + others - mean) / std
    of the reward model's r, with the moments of that rollout where scores are normalised; the
    others enter with their mean. Later moments are the critic's to learn, as all that moves.
    """
    if actor.critic_term is None:
        return list(rows)
    raw = torch.stack([row.rewards for row in rows]).double()
    weight = rewards.terms[actor.critic_term].weight
    others = rewards.weigh(raw) - weight * raw[:, actor.critic_term]
    known = others[~others.isnan()]
    mean, std = rewards.moments
    scale = weight / std
    shift = ((float(known.mean()) if len(known) else 0.0) - mean) / std
    # Trained again, it begins as what it has become.
    actor.critic_term, actor.critic_is_scored = None, False
    if (scale, shift) == (1.0, 0.0):
        return list(rows)
    actor.value_head.rescale(scale, shift)
    return [
        replace(row, values=row.values * scale + shift, value_after=row.value_after * scale + shift)
        for row in rows
    ]


def check_scale(actor: ActorCritic, rewards: RewardComposition) -> None:
    """Raise ValueError for a critic that would begin on another scale than that of the scores."""
    is_unknown = actor.critic_is_scored and actor.critic_term is None
    if is_unknown and rewards.normalise != "none":
        raise ValueError(
            "the critic starts from a reward model that is none of the rewards, so its scale among "
            'normalised scores is not known: take one of the rewards, or `critic` "policy"'
        )


def _refuse_quantised(module: Any) -> None:
    if getattr(module, "quantization_method", None) is not None:
        message = "the reward model is quantised, and a critic is trained: give `critic` another"
        raise ValueError(message)

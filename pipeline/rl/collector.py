"""One process's share of a rollout: sampled, scored by policy, reference, critic and rewards.

Without gradients and in evaluation mode, but in the precision and by the code of training: the old
log-probabilities are what training would find for the same weights.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch

from pipeline.rewards.responses import Logged, Responses
from pipeline.rl.actor_critic import evaluating, predicting_hidden
from pipeline.rl.logprobs import head_of, log_probabilities
from pipeline.rl.rollout import ScoredRow
from pipeline.rl.sequences import Sequences

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextlib import AbstractContextManager

    from torch import Tensor
    from transformers import PreTrainedTokenizerBase

    from pipeline.rewards.composition import RewardComposition
    from pipeline.rl.actor_critic import ActorCritic
    from pipeline.rl.config import PPOConfig
    from pipeline.rl.prompts import Prompt
    from pipeline.rl.sampler import Completion, Sampler, Sampling


@dataclass
class Collector:
    """What a rollout is made by.

    seed: of sampling; what is drawn for a row depends on it and the row's number in the whole run.
    autocast: the context of training.
    """

    actor: ActorCritic
    sampler: Sampler
    sampling: Sampling
    rewards: RewardComposition
    tokenizer: PreTrainedTokenizerBase
    args: PPOConfig
    device: torch.device
    autocast: Callable[[], AbstractContextManager[Any]]
    seconds: dict[str, float] = field(default_factory=lambda: {"rollout": 0.0, "score": 0.0})

    @torch.no_grad()
    def collect(
        self,
        prompts: Sequence[Prompt],
        numbers: Sequence[int],
        *,
        first: int,
        prompt_numbers: Sequence[int],
        state: Any = None,
        on_progress: Callable[[int], None] | None = None,
    ) -> tuple[list[ScoredRow], Logged]:
        """Return the scored responses to prompts, and what reward functions logged of them.

        numbers: of the rows in the rollout. first: the number in the whole run of the rollout's
        first row. state: the trainer's, for reward functions.
        """
        began = time.perf_counter()
        with evaluating(self.actor), self.actor.sampling() as module, self.autocast():
            policy: Any = module  # a PEFT model generates like the one in it
            completions = self.sampler(
                policy,
                [prompt.ids for prompt in prompts],
                keys=[first + number for number in numbers],
                seed=self.args.seed,
                on_progress=on_progress,
            )
        sampled = time.perf_counter()
        with evaluating(self.actor):
            scored = self._score(prompts, completions)
            responses = self.decode(prompts, [(c.token_ids, c.has_eos) for c in completions])
            raw = self.rewards.raw(responses, state)
        self.seconds["rollout"] += sampled - began
        self.seconds["score"] += time.perf_counter() - sampled
        rows: list[ScoredRow] = []
        for place, (prompt, completion) in enumerate(zip(prompts, completions, strict=True)):
            rows.append(
                ScoredRow(
                    number=numbers[place],
                    prompt=prompt_numbers[place],
                    prompt_ids=prompt.ids,
                    completion_ids=completion.token_ids,
                    has_eos=completion.has_eos,
                    rewards=raw[place].cpu(),
                    sampled=_tensor(completion.logprobs),
                    response=responses.text(place),
                    logged={
                        name: values[place] for name, values in responses.logged.columns.items()
                    },
                    **scored[place],
                )
            )
        return rows, responses.logged

    def decode(
        self, prompts: Sequence[Prompt], completions: Sequence[tuple[list[int], bool]]
    ) -> Responses:
        """Return what rewards are asked of: completions as text, beside the prompts' columns.

        completions: token ids, the stop token included, and whether they ended themselves.
        """
        names = sorted({name for prompt in prompts for name in prompt.columns})
        return Responses.decode(
            self.tokenizer,
            [prompt.shown for prompt in prompts],
            prompt_ids=[prompt.ids for prompt in prompts],
            completion_ids=[token_ids for token_ids, _ in completions],
            has_eos=[has_eos for _, has_eos in completions],
            columns={name: [prompt.columns.get(name) for prompt in prompts] for name in names},
            stop=self.args.stop_strings or (),
        )

    def _score(
        self, prompts: Sequence[Prompt], completions: Sequence[Completion]
    ) -> list[dict[str, Any]]:
        """Return log-probabilities, values and entropies of each response."""
        # Rows of like length in one pass, so that little is padding; the longest first, so that
        # what does not fit into memory fails at once.
        lengths = [len(p.ids) + len(c.token_ids) for p, c in zip(prompts, completions, strict=True)]
        order = sorted(range(len(prompts)), key=lambda i: lengths[i], reverse=True)
        scored: list[dict[str, Any]] = [{} for _ in prompts]
        for begin in range(0, len(order), self.args.scoring_batch_size):
            batch = order[begin : begin + self.args.scoring_batch_size]
            sequences = Sequences.of(
                [prompts[i].ids for i in batch],
                [completions[i].token_ids for i in batch],
                pad=self.sampling.pad_token_id,
                device=self.device,
            )
            reused = None
            if self.args.reuse_rollout_logprobs:
                logprobs = [logprob for i in batch for logprob in completions[i].logprobs or ()]
                reused = torch.tensor(logprobs) if len(logprobs) == len(sequences.targets) else None
            scores = self._score_batch(sequences, reused)
            counts = sequences.mask.sum(-1).tolist()
            per_token = ("logprobs", "reference", "values", "entropy")
            parts = {name: scores[name].split(counts) for name in per_token}
            for place, i in enumerate(batch):
                scored[i] = {
                    "logprobs": parts["logprobs"][place],
                    "reference": parts["reference"][place],
                    "values": parts["values"][place],
                    "entropy": float(parts["entropy"][place].sum()),
                    "value_after": float(scores["after"][place]),
                }
        return scored

    def _score_batch(self, sequences: Sequences, reused: Tensor | None) -> dict[str, Tensor]:
        """Return (N,) log-probabilities, values, entropies, and (B,) values after the end."""
        actor, args = self.actor, self.args
        forbidden = self.sampling.forbidden_ids
        with self.autocast():
            head = head_of(actor.causal, temperature=args.temperature, forbidden=forbidden)
            if reused is None:
                hidden = actor.policy_hidden(sequences)  # (N, d)
                logprobs, entropy = log_probabilities(
                    head, hidden, sequences.targets, with_entropy=True
                )
            else:
                logprobs, entropy = reused, -reused  # of the entropy an unbiased estimate
            with actor.reference() as reference:
                theirs = head_of(reference, temperature=args.temperature, forbidden=forbidden)
                states = predicting_hidden(reference.base_model, sequences)
                reference_logprobs, _ = log_probabilities(theirs, states, sequences.targets)
            with actor.as_critic():
                values = actor.values(sequences)
                is_wanted = args.truncation == "bootstrap"
                after = (
                    actor.values_after(sequences)
                    if is_wanted
                    else values.new_zeros(len(sequences.ids))
                )
        assert entropy is not None
        scores = {
            "logprobs": logprobs,
            "reference": reference_logprobs,
            "values": values,
            "entropy": entropy,
            "after": after,
        }
        return {name: tensor.float().cpu() for name, tensor in scores.items()}


def _tensor(numbers: list[float] | None) -> Tensor | None:
    return torch.tensor(numbers) if numbers is not None else None

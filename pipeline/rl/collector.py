"""One process's share of a rollout: sampled, scored by policy, reference, critic and rewards.

Without gradients and in evaluation mode, but in the precision and by the code of training: the old
log-probabilities are what training would find for the same weights.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from itertools import compress
from typing import TYPE_CHECKING, Any

import torch

from pipeline.rewards.responses import Logged, Responses
from pipeline.rl.actor import evaluating, predicting_hidden
from pipeline.rl.actor_critic import ActorCritic
from pipeline.rl.given import is_taken, write_completions
from pipeline.rl.logprobs import head_of, log_probabilities
from pipeline.rl.rollout import ScoredRow
from pipeline.rl.sequences import Sequences
from pipeline.rl.transcripts import messages_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextlib import AbstractContextManager

    from torch import Tensor
    from transformers import PreTrainedTokenizerBase

    from eval.tools.turns import ToolUse
    from pipeline.rewards.composition import RewardComposition
    from pipeline.rl.actor import Actor
    from pipeline.rl.config.base import RolloutConfig
    from pipeline.rl.prompts import Prompt
    from pipeline.rl.sampler import Completion, Sampler, Sampling
    from pipeline.rl.teacher import Teacher


@dataclass
class Collector:
    """What a rollout is made by.

    seed: of sampling; what is drawn for a row depends on it and the row's number in the whole run.
    autocast: the context of training. tools: what the sampler lets the policy call. teacher: whose
    log-probabilities are wanted, too, where it asks_teacher.
    """

    actor: Actor
    sampler: Sampler
    sampling: Sampling
    rewards: RewardComposition
    tokenizer: PreTrainedTokenizerBase
    args: RolloutConfig
    device: torch.device
    autocast: Callable[[], AbstractContextManager[Any]]
    tools: ToolUse | None = None
    teacher: Teacher | None = None
    asks_teacher: bool = True
    seconds: dict[str, float] = field(default_factory=lambda: {"rollout": 0.0, "score": 0.0})

    @torch.no_grad()
    def collect(
        self,
        prompts: Sequence[Prompt],
        numbers: Sequence[int],
        *,
        keys: Sequence[int],
        prompt_numbers: Sequence[int],
        state: Any = None,
        on_progress: Callable[[int], None] | None = None,
    ) -> tuple[list[ScoredRow], Logged]:
        """Return the scored responses to prompts, and what reward functions logged of them.

        numbers: of the rows in the rollout. keys: their numbers in the whole run, by which they
        are drawn. state: the trainer's, for reward functions.
        """
        began = time.perf_counter()
        how = {"share": self.args.sampled_share, "seed": self.args.seed}
        taken = [is_taken(prompt, key, **how) for prompt, key in zip(prompts, keys, strict=True)]
        with evaluating(self.actor), self.actor.sampling() as module, self.autocast():
            policy: Any = module  # a PEFT model generates like the one in it
            completions = write_completions(
                prompts,
                taken,
                lambda asked: self.sampler(
                    policy,
                    [prompts[number].ids for number in asked],
                    keys=[keys[number] for number in asked],
                    seed=self.args.seed,
                    on_progress=on_progress,
                ),
                self.sampling.eos_token_ids,
            )
        sampled = time.perf_counter()
        with evaluating(self.actor):
            owns = [_own_tokens(completion) for completion in completions]
            scored = self._score(prompts, completions, owns)
            responses = self.decode(prompts, completions)
            raw = self.rewards.raw(responses, state)
        self.seconds["rollout"] += sampled - began
        if self.tools is not None:  # of all calls, though many ran at a time
            talks = [one.conversation for one in completions if one.conversation is not None]
            took = sum(call.seconds for talk in talks for call in talk.calls)
            self.seconds["tools"] = self.seconds.get("tools", 0.0) + took
        self.seconds["score"] += time.perf_counter() - sampled
        rows: list[ScoredRow] = []
        for place, (prompt, completion) in enumerate(zip(prompts, completions, strict=True)):
            rows.append(
                ScoredRow(
                    number=numbers[place],
                    prompt=prompt_numbers[place],
                    prompt_ids=prompt.ids,
                    completion_ids=completion.token_ids,
                    own=owns[place],
                    has_eos=completion.has_eos,
                    rewards=raw[place].cpu(),
                    sampled=_tensor(completion.logprobs),
                    response=responses.text(place),
                    conversation=completion.conversation,
                    messages=_messages(responses, place, completion),
                    is_given=taken[place],
                    logged={
                        name: values[place] for name, values in responses.logged.columns.items()
                    },
                    **scored[place],
                )
            )
        return rows, responses.logged

    def decode(self, prompts: Sequence[Prompt], completions: Sequence[Completion]) -> Responses:
        """Return what rewards are asked of: completions as text, beside the prompts' columns.

        Of a conversation with tools that is each turn, as a message.
        """
        names = sorted({name for prompt in prompts for name in prompt.columns})
        return Responses.decode(
            self.tokenizer,
            [prompt.shown for prompt in prompts],
            prompt_ids=[prompt.ids for prompt in prompts],
            completion_ids=[completion.token_ids for completion in completions],
            has_eos=[completion.has_eos for completion in completions],
            columns={name: [prompt.columns.get(name) for prompt in prompts] for name in names},
            stop=self.args.stop_strings or (),
            turns=self._turns(completions),
        )

    def _turns(self, completions: Sequence[Completion]) -> list[list[dict[str, Any]]] | None:
        """Return completions as messages, where the policy has tools."""
        if self.tools is None:
            return None
        stop = self.args.stop_strings or ()
        return [
            messages_of(completion.conversation, self.tools.format, self.tokenizer, stop=stop)
            for completion in completions
            if completion.conversation is not None
        ]

    def _score(
        self,
        prompts: Sequence[Prompt],
        completions: Sequence[Completion],
        owns: Sequence[Tensor],
    ) -> list[dict[str, Any]]:
        """Return log-probabilities, values and entropies of each response.

        owns: (L,) of each, which tokens the policy wrote.
        """
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
                own=[completions[i].own for i in batch],
            )
            scores = self._score_batch(sequences, self._reuse([completions[i] for i in batch]))
            counts = sequences.mask.sum(-1).tolist()
            per_token = ("logprobs", "reference", "values", "entropy", "teacher")
            parts = {name: scores[name].split(counts) for name in per_token if name in scores}
            for place, i in enumerate(batch):
                scored[i] = {
                    "logprobs": _spread(parts["logprobs"][place], owns[i]),
                    "reference": _spread(parts["reference"][place], owns[i]),
                    "values": _spread(parts["values"][place], owns[i]),
                    "entropy": float(parts["entropy"][place].sum()),
                    "value_after": float(scores["after"][place]),
                }
                if "teacher" in parts:
                    scored[i]["teacher"] = _spread(parts["teacher"][place], owns[i])
        return scored

    def _reuse(self, completions: Sequence[Completion]) -> Tensor | None:
        """Return the sampler's log-probabilities of the policy's tokens, (N,), if they serve."""
        if not self.args.reuses_sampled_logprobs:
            return None
        logprobs: list[float] = []
        for completion in completions:
            if completion.logprobs is None:
                return None
            own = completion.own or [True] * len(completion.token_ids)
            logprobs += compress(completion.logprobs, own)
        return torch.tensor(logprobs)

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
            values, after = torch.zeros(len(sequences.targets)), torch.zeros(len(sequences.ids))
            if isinstance(actor, ActorCritic):
                with actor.as_critic():
                    values = actor.values(sequences)
                    if args.bootstraps_truncated:
                        after = actor.values_after(sequences)
        assert entropy is not None
        scores = {
            "logprobs": logprobs,
            "reference": reference_logprobs,
            "values": values,
            "entropy": entropy,
            "after": after,
        }
        if self.teacher is not None and self.asks_teacher:
            scores["teacher"] = self.teacher.logprobs(sequences)
        return {name: tensor.float().cpu() for name, tensor in scores.items()}


def _own_tokens(completion: Completion) -> Tensor:
    """Return which tokens of a completion the policy wrote, (L,)."""
    if completion.own is None:
        return torch.ones(len(completion.token_ids), dtype=torch.bool)
    return torch.tensor(completion.own, dtype=torch.bool)


def _messages(
    responses: Responses, place: int, completion: Completion
) -> list[dict[str, Any]] | None:
    """Return a conversation with tools as messages; None for a response that is none."""
    messages = responses.completions[place]
    if completion.conversation is None or isinstance(messages, str):
        return None
    return messages


def _spread(numbers: Tensor, own: Tensor) -> Tensor:
    """Return numbers of the policy's tokens, (n,), among all of a completion, (L,); 0 elsewhere."""
    return numbers if bool(own.all()) else torch.zeros(len(own)).masked_scatter(own, numbers)


def _tensor(numbers: list[float] | None) -> Tensor | None:
    return torch.tensor(numbers) if numbers is not None else None

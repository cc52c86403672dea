"""What tests of the trainer share: a model's weights made telling, a reward, the logged lines."""

from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext
from typing import Any

import torch

from pipeline.rl.actor import predicting_hidden
from pipeline.rl.actor_critic import ActorCritic
from pipeline.rl.batch import Batch
from pipeline.rl.config.ppo import PPOConfig
from pipeline.rl.logprobs import head_of, log_probabilities
from pipeline.rl.losses import Losses
from pipeline.rl.ppo import PPOTrainer
from pipeline.rl.sampler import Completion
from pipeline.rl.sequences import Sequences

VOCABULARY = 32
CPU = torch.device("cpu")
LAYOUTS = ("separate", "shared_lora", "shared_trunk")
SMALL = {"max_completion_length": 2, "num_ppo_epochs": 1}
MakeTrainer = Callable[..., PPOTrainer]


def confident(module: Any) -> Any:
    """Make a new model's weights large enough to see a wrong position in its output."""
    with torch.no_grad():
        for parameter in module.parameters():
            if parameter.ndim > 1:
                parameter.mul_(8)
    return module.eval()


def shaken(parameters: Iterable[Any], *, seed: int = 5, scale: float = 0.2) -> None:
    """Add noise to parameters, so that what was zero or equal no longer is."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in parameters:
            noise = torch.randn(parameter.shape, generator=generator)
            parameter.add_(scale * noise.to(parameter.dtype))


def count_of_sevens(completion_ids: list[list[int]], **_: Any) -> list[float]:
    return [float(ids.count(7)) for ids in completion_ids]


def lines_of(trainer: PPOTrainer) -> list[dict[str, float]]:
    """Return the lines that were logged, one a rollout."""
    return [line for line in trainer.state.log_history if "objective/scores" in line]


def weights_of(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Return copies of a module's weights."""
    return {name: each.detach().clone() for name, each in module.named_parameters()}


def are_same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    """Whether two copies of a module's weights are the same to the last bit."""
    assert one.keys() == other.keys()
    return all(torch.equal(each, other[name]) for name, each in one.items())


def some_batch(vocabulary: int = VOCABULARY) -> Batch:
    """Return rows of several lengths in which some ratios and values are clipped, some are not."""
    generator = torch.Generator().manual_seed(3)

    def ids(length: int) -> list[int]:
        return torch.randint(2, vocabulary, (length,), generator=generator).tolist()

    def noise(scale: float, mean: float = 0.0) -> torch.Tensor:
        return mean + scale * torch.randn(len(sequences.targets), generator=generator)

    lengths = [(3, 5), (1, 1), (6, 2), (2, 6)]
    sequences = Sequences.of(
        [ids(p) for p, _ in lengths], [ids(c) for _, c in lengths], pad=0, device=CPU
    )
    return Batch(
        sequences,
        weights=torch.full((len(sequences.targets),), 1 / len(sequences.targets)),
        logprobs=noise(0.5, mean=-3.5),
        reference=noise(0.5, mean=-3.5),
        values=noise(0.3),
        advantages=noise(1.0),
        returns=noise(1.0),
        token_share=1 / len(sequences.targets),
        rows=sequences.mask.nonzero()[:, 0],
    )


def losses_of(actor: Any, args: PPOConfig, forbidden: tuple[int, ...] = ()) -> Losses:
    return Losses(actor, args, forbidden, nullcontext)


def gradients_of(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Return the gradients there are, and forget them."""
    found = {n: p.grad.clone() for n, p in module.named_parameters() if p.grad is not None}
    module.zero_grad(set_to_none=True)
    return found


@torch.no_grad()
def reference_logprobs(actor: ActorCritic) -> torch.Tensor:
    sequences = some_batch().sequences
    with actor.reference() as reference:
        hidden = predicting_hidden(reference.base_model, sequences)
        return log_probabilities(head_of(reference), hidden, sequences.targets)[0]


@torch.no_grad()
def policy_logprobs(actor: ActorCritic) -> torch.Tensor:
    sequences = some_batch().sequences
    hidden = actor.policy_hidden(sequences)
    return log_probabilities(head_of(actor.causal), hidden, sequences.targets)[0]


@torch.no_grad()
def values_of(actor: ActorCritic) -> torch.Tensor:
    with actor.as_critic():
        return actor.values(some_batch().sequences)


class Written:
    """A sampler that writes what it is told, one completion after the other."""

    def __init__(self, completions: Sequence[list[int]], ends: int = 1) -> None:
        self._completions = list(completions)
        self._ends = ends

    def __call__(self, module: Any, prompts: Any, *, keys: Any, **_: Any) -> list[Completion]:
        rows = [self._completions[key % len(self._completions)] for key in keys]
        return [Completion(row, row[-1:] == [self._ends], None) for row in rows]

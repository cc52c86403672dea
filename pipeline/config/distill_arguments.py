"""Which arguments of distillation go together, for recipes and DistillConfig alike. No torch."""

from collections.abc import Mapping
from typing import Any

# Of DistillConfig's, those that others decide about.
ARGUMENTS = (
    *("loss_type", "beta", "loss_top_k", "gamma", "lmbda", "num_generations"),
    *("dynamic_sampling", "overlong_cache"),
)


def together_problem(arguments: Mapping[str, Any]) -> tuple[str, str, str] | None:
    """Return (key, what is wrong, what to do) where one argument has no place beside another."""
    is_sampled = arguments.get("loss_type") == "policy_gradient"
    generations, share = arguments.get("num_generations", 1), arguments.get("lmbda", 1)
    beta = arguments.get("beta", 1)
    if is_sampled and beta != 1:
        what = f"`loss_type` policy_gradient is of `beta` 1, not {beta}"
        return "beta", what, "leave `beta` out, or write `loss_type` divergence"
    if is_sampled and arguments.get("loss_top_k"):
        what = "`loss_type` policy_gradient looks at the token that was sampled"
        return "loss_top_k", what, "leave `loss_top_k` out"
    if is_sampled and share < 1:
        what = "`loss_type` policy_gradient learns from what the student samples"
        return "lmbda", what, "leave `lmbda` out"
    if not is_sampled and arguments.get("gamma"):
        what = "`gamma` is of rewards to come, and a divergence has none"
        return "gamma", what, "leave it out, or write `loss_type` policy_gradient"
    if generations > 1 and share < 1:
        what = f"`num_generations` {generations} are sampled, and `lmbda` {share} takes rows' own"
        return "num_generations", what, "leave one of them out"
    for key in ("dynamic_sampling", "overlong_cache"):
        if generations == 1 and arguments.get(key):
            what = f"`{key}` is of rewards, which compare several responses to a prompt"
            return key, what, "write `num_generations` 2 or more, and `reward`"
    return None

"""The tools of a policy that is trained, and what is logged of their use."""

from __future__ import annotations

import json
from dataclasses import dataclass
from statistics import fmean
from typing import TYPE_CHECKING, Any

from eval.tools.tool import CALL_ERRORS

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from transformers import PreTrainedTokenizerBase

    from eval.tools.tool import Tool
    from eval.tools.turns import Conversation, ToolUse
    from pipeline.rl.config.base import RolloutConfig
    from pipeline.rl.prompts import Prompt
    from pipeline.rl.rollout import ScoredRow

NEEDS_TOOL = "needs_tool"  # a column of prompts: whether it takes a tool to be right
_NO_LIMIT = 10**6  # turns: each takes a token at least


@dataclass(frozen=True)
class PolicyTools:
    """use: what the sampler does with calls. told: the tools as JSON, if the template shows any."""

    use: ToolUse
    told: str


def give_policy_tools(
    tools: Sequence[Callable[..., Any] | Tool] | None,
    tokenizer: PreTrainedTokenizerBase,
    args: RolloutConfig,
) -> PolicyTools | None:
    """Return the tools that a policy may call; None for none.

    Raises PosttrainError for a function that a model cannot be told of, and for a chat template
    that has no calls of tools.
    """
    if not tools:
        return None
    from pipeline.tools.use import tool_settings, tools_of, use_tools

    made = tools_of(tools)
    answered = args.max_tool_calling_iterations
    variables = json.dumps(args.chat_template_kwargs) if args.chat_template_kwargs else ""
    use = use_tools(
        made,
        tokenizer,
        max_turns=_NO_LIMIT if answered is None else answered + 1,
        variables=variables,
    )
    return PolicyTools(use, tool_settings(made, tokenizer).tools)


def tool_metrics(rows: Sequence[ScoredRow], prompts: Sequence[Prompt]) -> dict[str, float]:
    """Return how the responses of a rollout used tools; nothing where the policy has none.

    prompts: of each row. The first two are TRL's: calls per response, and the share of the calls
    that had no result. `tools/called`: share of responses with a call; also of those whose prompt
    says that one is needed, or not. `tools/turns`: turns of the policy per response. `tools/open`:
    share of responses whose last calls it never read the answers of. `tools/cut_results`: share of
    the answers of which only the beginning was shown. `tools/errors/KIND`: share of the calls.
    """
    talks = [row.conversation for row in rows if row.conversation is not None]
    if not talks:
        return {}
    calls = [call for talk in talks for call in talk.calls]
    metrics = {
        "tools/call_frequency": len(calls) / len(talks),
        "tools/failure_frequency": _share([call.error is not None for call in calls]),
        "tools/called": _share([bool(talk.calls) for talk in talks]),
        "tools/turns": fmean(len(talk.turns) for talk in talks),
        "tools/open": _share([talk.has_open_calls for talk in talks]),
        "tools/cut_results": _share([call.is_cut for call in calls]),
    }
    for kind in CALL_ERRORS:
        share = _share([call.error == kind for call in calls])
        if share > 0:
            metrics[f"tools/errors/{kind.replace(' ', '_')}"] = share
    return metrics | _by_need(rows, prompts)


def _by_need(rows: Sequence[ScoredRow], prompts: Sequence[Prompt]) -> dict[str, float]:
    """Return how often a tool was called where one is needed, and where none is."""
    called: dict[bool, list[bool]] = {True: [], False: []}
    for row, prompt in zip(rows, prompts, strict=True):
        needs = prompt.columns.get(NEEDS_TOOL)
        if row.conversation is not None and isinstance(needs, bool):
            called[needs].append(_calls(row.conversation))
    names = {True: "tools/called_when_needed", False: "tools/called_when_not_needed"}
    return {names[needs]: _share(each) for needs, each in called.items() if each}


def _calls(talk: Conversation) -> bool:
    return bool(talk.calls) or talk.has_open_calls


def _share(flags: Sequence[bool]) -> float:
    return sum(flags) / len(flags) if flags else 0.0

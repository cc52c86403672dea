"""What conversations with tools rest on: whose tokens are whose, limits, and what is told."""

from tests.mutations.mutation import Mutation

_TURNS = ("tests/unit/eval/tools/test_turns.py",)
_FORMATS = ("tests/unit/tools/test_tool_formats.py",)
_CONVERSATION = ("tests/unit/rl/test_conversation.py",)
_TOOLBOX = ("tests/unit/eval/tools/test_toolbox.py",)

TOOL_TURNS: list[Mutation] = [
    Mutation(
        "what tools answer is not the policy's",
        "eval/tools/turns.py",
        "self._extend(token_ids, is_own=False, logprobs=zeros)",
        "self._extend(token_ids, is_own=True, logprobs=zeros)",
        _TURNS,
    ),
    Mutation(
        "an answer that leaves no room is not put in",
        "eval/tools/turns.py",
        "if len(conversation.token_ids) + len(ids) >= max_new_tokens:",
        "if False:",
        _TURNS,
    ),
    Mutation(
        "a call that the length cut is no call",
        "eval/tools/turns.py",
        "tools.format.read_calls(turn.token_ids) if turn.has_ended else []",
        "tools.format.read_calls(turn.token_ids)",
        _TURNS,
    ),
    Mutation(
        "what a tool answers is text, whatever it spells",
        "pipeline/data/encoding/tool_turns.py",
        'follows="control", forgeable=forgeable)',
        'follows="control")',
        _FORMATS,
    ),
    Mutation(
        "a turn that a stop string ended is given its end token",
        "pipeline/data/encoding/tool_turns.py",
        "if self._end is not None and last_id not in self._ends:",
        "if False:",
        _FORMATS,
    ),
    Mutation(
        "a row that goes on draws from where it was",
        "pipeline/rl/sampler.py",
        "return self.begun + len(self.token_ids)",
        "return len(self.token_ids)",
        _CONVERSATION,
    ),
    Mutation(
        "another turn has another seed in engines of others",
        "pipeline/vllm/requests.py",
        "entropy = (seed, key, begun) if begun else (seed, key)",
        "entropy = (seed, key)",
        _CONVERSATION,
    ),
    Mutation(
        "a tool that hangs is answered for",
        "eval/tools/toolbox.py",
        "if not self._is_done.wait(None if left_s is None else max(left_s, 0)):",
        "if not self._is_done.wait(30):",
        _TOOLBOX,
    ),
    Mutation(
        "a query of a tool can only read",
        "eval/tools/sql.py",
        "connection.set_authorizer(_authorize)",
        "pass",
        _TOOLBOX,
    ),
]

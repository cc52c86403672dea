"""What data with tools rests on: what is learnt of it, and what no training text may hold."""

from tests.mutations.mutation import Mutation

_TEMPLATE = ("tests/unit/model_files/test_own_template.py",)
_COLUMNS = ("tests/unit/data/reading/test_columns.py",)
_CALLS = ("tests/unit/eval/tools/test_calls.py",)
_TASK = ("tests/unit/eval/tasks/test_task_tool_arithmetic.py",)

TOOLS: list[Mutation] = [
    Mutation(
        "a chat without tools has the ids that it had before the template knew them",
        "pipeline/model_files/own_template.py",
        "{% if not (tools and loop.first and message['role'] == 'system') %}",
        "{% if not (loop.first and message['role'] == 'system') %}",
        _TEMPLATE,
    ),
    Mutation(
        "what a tool answers is no turn of the assistant's",
        "pipeline/model_files/own_template.py",
        "('system' if message['role'] == 'tool' else message['role'])",
        "('assistant' if message['role'] == 'tool' else message['role'])",
        _TEMPLATE,
    ),
    Mutation(
        "nulls that Arrow filled into calls are left out",
        "pipeline/data/reading/columns.py",
        "if inner is not None or _takes_null(known.get(key))",
        "if True",
        _COLUMNS,
    ),
    Mutation(
        "a null that a tool takes is kept",
        "pipeline/data/reading/columns.py",
        "if inner is not None or _takes_null(known.get(key))",
        "if inner is not None",
        _COLUMNS,
    ),
    Mutation(
        "arguments that are JSON as a text stay as they are",
        "pipeline/data/reading/columns.py",
        'if call.is_text or "null" not in call.arguments:',
        'if "null" not in call.arguments:',
        _COLUMNS,
    ),
    Mutation(
        "calls in pairs are read as those in chats",
        "pipeline/data/reading/preferences.py",
        "with_system(row, drop_filled_nulls(prompt, settings))",
        "with_system(row, prompt)",
        _COLUMNS,
    ),
    Mutation(
        "a value behind a call's last bracket is no call",
        "eval/tools/calls.py",
        r"|\)\s*(?=<\|[^|<>\s]+\|>|\Z))",
        r"|\)\s*)",
        _CALLS,
    ),
    Mutation(
        "no training text of tool_arithmetic calculates a test item",
        "eval/tasks/tool_arithmetic.py",
        "if is_long and _split(problem) == split:",
        "if is_long:",
        _TASK,
    ),
    Mutation(
        "a problem that needs a tool says so",
        "eval/tasks/tool_arithmetic.py",
        "yield _example(long, rng, needs_tool=True)",
        "yield _example(long, rng, needs_tool=False)",
        _TASK,
    ),
]

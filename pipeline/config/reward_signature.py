"""How a reward function is called, and whether the source of a user's function allows that.

Runs nothing; `user_code.load_object` imports the object when a stage needs it.
"""

import ast
from collections.abc import Iterator, Sequence
from pathlib import Path

from pipeline.config.user_code import no_such_name, object_source

# What a reward function is called with, by keyword, beside the columns of the prompts: TRL's
# calling convention (rloo_trainer.py, `_calculate_rewards`).
HANDED_TO_REWARDS = (
    *("prompts", "completions", "completion_ids"),
    *("trainer_state", "log_extra", "log_metric"),
)


def check_reward_function(text: str, base: Path) -> None:
    """Raise ValueError where `module:name` names nothing that can be called as a reward function.

    base: the recipe's folder. Passes whatever only running the module could tell.
    """
    found = find_statement(text, base)
    if found is None:
        return
    function, path = found
    if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
        _check_parameters(function, text, path)


def find_statement(text: str, base: Path) -> tuple[ast.stmt, Path] | None:
    """Return the statement that gives `module:name` its value, and its file; None without source.

    Raises ValueError for a file that cannot be parsed, and for a name that it does not have.
    """
    path = object_source(text, base)
    if path is None:
        return None
    body = _parse(text, path)
    statement_by_name = {
        name: statement for statement in _top_level(body) for name in _find_bound_names(statement)
    }
    name = text.rpartition(":")[2]
    if name in statement_by_name:
        return statement_by_name[name], path
    if not {"*", "__getattr__"} & statement_by_name.keys():
        raise no_such_name(text, path.name, statement_by_name)
    return None


def _parse(text: str, path: Path) -> Sequence[ast.stmt]:
    try:
        return ast.parse(path.read_bytes()).body
    except (SyntaxError, ValueError) as error:
        line = error.lineno if isinstance(error, SyntaxError) else None
        reason = error.msg if isinstance(error, SyntaxError) else str(error)
        raise ValueError(f"`{text}`: {path.name}:{line or 1}: {reason}") from error


def _top_level(body: Sequence[ast.stmt]) -> Iterator[ast.stmt]:
    """Yield the statements of a module, including those below an `if`, `try` or `with`."""
    for statement in body:
        yield statement
        if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            continue
        for child in ast.iter_child_nodes(statement):
            if isinstance(child, ast.stmt):
                yield from _top_level([child])
            elif isinstance(child, ast.ExceptHandler):
                yield from _top_level(child.body)


def _find_bound_names(statement: ast.stmt) -> Iterator[str]:
    """Yield the names that a statement gives a value to."""
    if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        yield statement.name
    elif isinstance(statement, ast.Import | ast.ImportFrom):
        yield from (alias.asname or alias.name.partition(".")[0] for alias in statement.names)
    elif isinstance(statement, ast.Assign | ast.AnnAssign):
        names = (node for node in ast.walk(statement) if isinstance(node, ast.Name))
        yield from (node.id for node in names if isinstance(node.ctx, ast.Store))


def _check_parameters(
    function: ast.FunctionDef | ast.AsyncFunctionDef, text: str, path: Path
) -> None:
    if function.args.kwarg is not None or function.decorator_list:
        return
    taken = {parameter.arg for parameter in (*function.args.args, *function.args.kwonlyargs)}
    left_out = [name for name in (*HANDED_TO_REWARDS, "source") if name not in taken]
    if left_out:
        message = f"`{text}`: {path.name}:{function.lineno}: it does not take `{left_out[0]}`"
        how = "a reward function is called by keyword, with every column of the prompts"
        raise ValueError(f"{message}; {how}: give it a last parameter `**rest`")

"""Whether the source of a user's function lets it be a tool, read without running it.

A model is told what a tool takes by transformers' `get_json_schema`: from annotations, and from a
docstring that describes every argument. `user_code.load_object` imports it when a stage needs it.
"""

import ast
import re
from pathlib import Path

from pipeline.config.reward_signature import find_statement


def check_tool_function(text: str, base: Path) -> None:
    """Raise ValueError where `module:function` names nothing that a model can be told of.

    base: the recipe's folder. Passes whatever only running the module could tell.
    """
    found = find_statement(text, base)
    if found is None:
        return
    statement, path = found
    if not isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef):
        return
    if statement.decorator_list:
        return
    place = f"`{text}`: {path.name}:{statement.lineno}"
    docstring = ast.get_docstring(statement)
    if not docstring:
        what = "a model is told by it what the tool does"
        raise ValueError(f"{place}: the function has no docstring; {what}")
    arguments = statement.args
    if arguments.vararg is not None or arguments.kwarg is not None or arguments.posonlyargs:
        what = "a tool is called with its arguments by name"
        raise ValueError(f"{place}: it takes `*` or `/`; {what}: name each of them")
    described = docstring.partition("Args:")[2]
    for argument in (*arguments.args, *arguments.kwonlyargs):
        if argument.annotation is None:
            hint = f"write `{argument.arg}: str`, or what it is"
            raise ValueError(f"{place}: `{argument.arg}` has no annotation; {hint}")
        if not re.search(rf"^\s*{argument.arg}\s*:\s*\S", described, re.MULTILINE):
            hint = f"write `Args:` in it, and below it `{argument.arg}: what it is`"
            raise ValueError(f"{place}: the docstring does not describe `{argument.arg}`; {hint}")

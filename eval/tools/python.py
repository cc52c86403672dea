"""The tool `python`: a program of the model's, run in a box, and what it prints.

A box (reward/sandbox.py) has no file, no network and no other process; each call has one of its
own, so that nothing is kept between calls.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from eval.tools.tool import MAX_RESULT_CHARACTERS, ToolError, make_tool
from reward.sandbox import Call, require_sandbox, run_calls

if TYPE_CHECKING:
    from eval.tools.tool import Tool

# Runs in the box. Prints what the program prints and the value of a last expression.
_RUNNER = """
import ast, sys

class _Printed:
    def __init__(self):
        self.parts, self.room = [], LIMIT
    def write(self, text):
        self.parts.append(text[: self.room])
        self.room -= len(self.parts[-1])
        return len(text)
    def flush(self):
        pass

def run(source):
    printed = sys.stdout = sys.stderr = _Printed()
    names = {"__name__": "__main__"}
    try:
        body = ast.parse(source, "<code>")
        last = body.body.pop() if body.body and isinstance(body.body[-1], ast.Expr) else None
        exec(compile(body, "<code>", "exec"), names)
        if last is not None:
            value = eval(compile(ast.Expression(last.value), "<code>", "eval"), names)
            if value is not None:
                print(repr(value))
    except BaseException as error:
        line = error.lineno if isinstance(error, SyntaxError) else None
        trace = error.__traceback__
        while trace is not None:
            if trace.tb_frame.f_code.co_filename == "<code>":
                line = trace.tb_lineno
            trace = trace.tb_next
        at = "" if line is None else " in line %d" % line
        text = "%s%s: %s" % (type(error).__name__, at, getattr(error, "msg", error))
        return ["".join(printed.parts), text]
    return ["".join(printed.parts), ""]
""".replace("LIMIT", str(4 * MAX_RESULT_CHARACTERS))


def python_tool(*, timeout_s: float, max_result_characters: int) -> Tool:
    """Return the tool. timeout_s: processor seconds of a call; three times that on the clock.

    Raises SandboxUnavailable where programs cannot be confined.
    """
    require_sandbox()

    def python(code: str) -> str:
        """Run a Python program and return what it prints. Nothing is kept between calls.

        Args:
            code: The program.
        """
        return _run(code, timeout_s)

    return make_tool(python, timeout_s=None, max_result_characters=max_result_characters)


def _run(code: str, timeout_s: float) -> str:
    outcome = run_calls(_RUNNER, [Call("run", [code])], timeout_s=timeout_s)
    if outcome.status == "timeout":
        raise TimeoutError(outcome.reason)
    if outcome.status != "finished":
        raise ToolError(outcome.reason)
    answer = outcome.answers[0]
    match answer.value:
        case [str(printed), ""]:
            return printed or "(nothing was printed)"
        case [str(printed), str(error)]:
            raise ToolError(f"{printed}{error}")
        case _:
            raise ToolError(answer.error or "the program spoiled its answer")

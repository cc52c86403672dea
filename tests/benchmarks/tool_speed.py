"""How long a call of a tool takes, from the call as it was read to the text that the model reads.

The ratio is the time allowed over the median time taken; the box of `python` is warm.
"""

import statistics
import time

from eval.tools.calculator import calculator
from eval.tools.calls import Call
from eval.tools.python import python_tool
from eval.tools.tool import Tool, make_tool
from eval.tools.toolbox import Toolbox
from tests.benchmarks.result import Result


def calculator_seconds() -> Result:
    """Time a product of two long numbers."""
    tool = make_tool(calculator, timeout_s=None, is_quick=True)
    return _timed("calculator_seconds", tool, {"expression": "48317 * 90271 + 3"}, 0.001, 2000)


def python_tool_seconds() -> Result:
    """Time a program that prints one."""
    tool = python_tool(timeout_s=5, max_result_characters=2000)
    return _timed("python_tool_seconds", tool, {"code": "print(48317 * 90271 + 3)"}, 0.02, 200)


def _timed(name: str, tool: Tool, arguments: dict[str, str], goal_s: float, repeats: int) -> Result:
    toolbox, call = Toolbox([tool]), Call(tool.name, arguments)
    taken: list[float] = []
    answers: set[str] = set()
    for _ in range(repeats):
        start = time.perf_counter()
        (record,) = toolbox.run([call])
        taken.append(time.perf_counter() - start)
        answers.add(record.answer.strip())
    median_s = statistics.median(taken)
    details = {
        "milliseconds": round(1000 * median_s, 3),
        "best_milliseconds": round(1000 * min(taken), 3),
        "goal_milliseconds": 1000 * goal_s,
        "median_of": repeats,
    }
    return Result(name, goal_s / median_s, 1.0, details, is_valid=answers == {"4361623910"})

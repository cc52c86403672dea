"""math-verify's own test cases, from its source distribution, through our verifier.

Downloaded by pip, in the version that is installed. What comes out differently is listed with the
reason; a case of a later version that is not listed fails.
"""

import ast
import importlib.metadata
import math
import subprocess
import sys
import tarfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from reward.verifiers.symbolic import symbolic

_PLAIN_NUMBERS = "its test looks for LaTeX only, which may not go over lines; we read a number, too"
_TWO_DECIMALS = "its test rounds to 2 decimals, we to 6"
_AS_SETS = "its test compares relations with sets on request"
_NOT_STRICT = "its test takes names of variables to be alike on request"
# By file, function and place among the function's cases.
DIFFERENCES: dict[tuple[str, str, int], str] = {
    ("test_all", "test_latex_notation", 5): _PLAIN_NUMBERS,
    ("test_all", "test_latex_notation", 6): _PLAIN_NUMBERS,
    ("test_all", "test_complex_math_expressions", 7): _TWO_DECIMALS,
    ("test_all", "test_complex_math_expressions", 13): _TWO_DECIMALS,
    ("test_all", "test_set_rel_assymetry", 2): _AS_SETS,
    ("test_strict", "test_strict_variable_comparison", 1): _NOT_STRICT,
}
_LEAST = 270


@pytest.fixture
def own_tests(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of math-verify's tests."""
    version = importlib.metadata.version("math-verify")
    wanted = f"math-verify=={version}"
    options = ("--no-deps", "--no-binary", ":all:", "--no-build-isolation", "--dest", str(tmp_path))
    subprocess.run(
        [sys.executable, "-m", "pip", "download", "--quiet", *options, wanted], check=True
    )
    (archive,) = tmp_path.glob("*.tar.gz")
    with tarfile.open(archive) as opened:
        opened.extractall(tmp_path, filter="data")
    (folder,) = tmp_path.glob("*/tests")
    return folder


def cases_in(folder: Path) -> Iterator[tuple[tuple[str, str, int], dict[str, Any]]]:
    """Yield every parametrized case of a reference and a response; nothing is run but literals."""
    for path in sorted(folder.glob("test_*.py")):
        for function in ast.parse(path.read_text()).body:
            if not isinstance(function, ast.FunctionDef):
                continue
            for decorator in function.decorator_list:
                if isinstance(decorator, ast.Call) and len(decorator.args) == 2:
                    names = ast.unparse(decorator.args[0]).strip("'\"").split(",")
                    if [name.strip() for name in names[:2]] != ["gold", "pred"]:
                        continue
                    assert isinstance(decorator.args[1], ast.List)
                    for place, element in enumerate(decorator.args[1].elts):
                        values = eval(ast.unparse(element), {"math": math})  # noqa: S307  its f-strings
                        key = (path.stem, function.name, place)
                        yield key, dict(zip(map(str.strip, names), values, strict=True))


@pytest.mark.network
def test_its_own_cases_come_out_the_same_but_for_those_that_are_listed(own_tests: Path):
    same: Counter[bool] = Counter()
    unlisted: list[str] = []
    for key, case in cases_in(own_tests):
        expected = bool(case.get("expected", case.get("result")))
        verdict = symbolic(case["pred"], case["gold"])
        is_same = verdict.score == float(expected)
        same[is_same] += 1
        if is_same != (key not in DIFFERENCES):
            unlisted.append(f"{key}: expected {expected}, {verdict}")
    assert not unlisted, "\n".join(unlisted)
    assert same[True] + same[False] >= _LEAST
    assert same[False] == len(DIFFERENCES)

"""`python -m tests.house [FOLDER ...]`: figures by which the code is kept, a column per checkout.

Reads source as text and syntax trees and imports none of it, so it measures older checkouts too
(`git worktree add --detach /tmp/before COMMIT`).

- A circle is a group of files that import each other; imports inside functions and under
  TYPE_CHECKING count. An import climbs where it goes to a higher floor of the checkout's own
  `[tool.importlinter]`: a dash where that contract leaves files out.
- A function is named for a participle where the first word of its name is one, after `not_` the
  second: it ends in `ed`, or is one of the irregular ones below. Properties are not counted.
- The seven words name the state of finding a thing, not the thing. They are counted where a local
  or a parameter gets such a name, and anywhere, prose included.
- Comments are per 100 lines of code, without those that speak to tools (`# noqa`).
"""

import ast
import io
import re
import statistics
import sys
import tokenize
from pathlib import Path

from tests.import_graph import circles, floors, imports

ROOTS = ("pipeline", "eval", "reward")
WORDS = re.compile(r"\b(?:found|each|given|said|asked|wanted|other)\b")
IRREGULAR = re.compile(
    "begun|bound|broken|built|chosen|dealt|done|drawn|found|given|held|hidden|kept|known|left|lost"
    "|made|meant|met|said|seen|sent|shown|spelt|spent|taken|told|written"
)
VERBS_IN_ED = re.compile("embed|exceed|feed|need|proceed|seed|shed|speed")
TO_TOOLS = re.compile(r"#\s*(?:noqa|pyright:|type:|fmt:)")


def main(folders: list[Path]) -> None:
    columns = [figures(folder) for folder in folders]
    print(f"{'':<40}" + "".join(f"{folder.resolve().name:>18}" for folder in folders))
    for name in columns[0]:
        print(f"{name:<40}" + "".join(f"{column[name]:>18}" for column in columns))


def figures(folder: Path) -> dict[str, str]:
    """Return each figure of a checkout under its name."""
    texts = {
        module_of(path.relative_to(folder)): path.read_text(encoding="utf-8")
        for root in ROOTS
        for path in sorted((folder / root).rglob("*.py"))
    }
    trees = {module: ast.parse(text) for module, text in texts.items()}
    graph = imports(trees)
    floor_by_module = floors(folder, list(texts))
    num_outside = len(texts) - len(floor_by_module)
    climbing = [
        (upper, lower)
        for lower, targets in graph.items()
        for upper in targets
        if floor_by_module.get(upper, 0) < floor_by_module.get(lower, 0)
    ]
    nodes = [node for tree in trees.values() for node in ast.walk(tree)]
    functions = [node for node in nodes if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    names = [one.name for one in functions if not is_property(one)]
    num_participles = sum(map(is_participle, names))
    lines = [text.count("\n") for text in texts.values()]
    num_words = sum(len(WORDS.findall(text)) for text in texts.values())
    num_bound = sum(bool(WORDS.fullmatch(name)) for name in map(bound_name, nodes))
    comments, code = map(sum, zip(*map(comments_and_code, texts.values()), strict=True))
    return {
        "files": f"{len(texts):,}",
        "lines": f"{sum(lines):,}",
        "circles of files": str(len(circles(graph))),
        "imports that climb": "-" if num_outside else str(len(climbing)),
        "files outside the contract": str(num_outside),
        "lines per file (median, p90, max)": spread([number for number in lines if number]),
        "functions": f"{len(functions):,}",
        "lines per function (median, p90, max)": spread(
            [one.end_lineno - one.lineno + 1 for one in functions]
        ),
        "functions named for a participle": f"{100 * num_participles / len(names):.1f}%",
        "names of the seven per 1,000 lines": f"{1000 * num_bound / sum(lines):.1f}",
        "the seven anywhere per 1,000 lines": f"{1000 * num_words / sum(lines):.1f}",
        "comments per 100 lines of code": f"{100 * comments / code:.1f}",
        "words in README": f"{len((folder / 'README.md').read_text().split()):,}",
    }


def module_of(path: Path) -> str:
    return ".".join(path.with_suffix("").parts).removesuffix(".__init__")


def is_property(function: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    return any("property" in ast.unparse(decorator) for decorator in function.decorator_list)


def is_participle(name: str) -> bool:
    word = name.strip("_").removeprefix("not_").partition("_")[0]
    return bool(IRREGULAR.fullmatch(word)) or (
        word.endswith("ed") and not VERBS_IN_ED.fullmatch(word)
    )


def bound_name(node: ast.AST) -> str:
    """Return the name that a node gives to a parameter or a variable, or nothing."""
    if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
        return node.id
    return node.arg if isinstance(node, ast.arg) else ""


def comments_and_code(text: str) -> tuple[int, int]:
    """Return the number of comments in a file, and of lines that hold anything else."""
    comments, code = 0, set[int]()
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT:
            comments += not TO_TOOLS.match(token.string)
        elif token.string.strip():
            code.update(range(token.start[0], token.end[0] + 1))
    return comments, len(code)


def spread(counts: list[int]) -> str:
    tenths = statistics.quantiles(counts, n=10)
    return f"{statistics.median(counts):.0f}, {tenths[8]:.0f}, {max(counts)}"


if __name__ == "__main__":
    main([Path(one) for one in sys.argv[1:]] or [Path()])

"""Who imports whom in a checkout, from its syntax trees, and on which floor each module stands."""

import ast
import tomllib
from collections.abc import Iterator
from pathlib import Path

Graph = dict[str, set[str]]


def imports(trees: dict[str, ast.Module]) -> Graph:
    """Return which of our modules each module names in an import, wherever that stands."""
    graph: Graph = {module: set() for module in trees}
    for module, tree in trees.items():
        for node in ast.walk(tree):
            targets: set[str] = set()
            if isinstance(node, ast.Import):
                targets = {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                inner = {f"{node.module}.{alias.name}" for alias in node.names}
                targets = {name if name in trees else node.module for name in inner}
            graph[module] |= targets & trees.keys() - {module}
    return graph


def circles(graph: Graph) -> set[frozenset[str]]:
    """Return the groups of more than one module in which each reaches every other."""
    reached = {module: set(below(module, graph)) for module in graph}
    groups = {frozenset(x for x in {m, *reached[m]} if m in {x, *reached[x]}) for m in graph}
    return {group for group in groups if len(group) > 1}


def below(module: str, graph: Graph) -> Iterator[str]:
    seen, waiting = set[str](), [module]
    while waiting:
        new = graph[waiting.pop()] - seen
        seen |= new
        waiting += new
        yield from new


def floors(folder: Path, modules: list[str]) -> dict[str, int]:
    """Return the floor of each module that the import contract names, 0 the highest."""
    settings = tomllib.loads((folder / "pyproject.toml").read_text())["tool"]["importlinter"]
    floor_by_prefix = {"pipeline": 0, "eval": 1000, "reward": 1001}
    for contract in settings["contracts"]:
        for container in contract.get("containers", [""]):
            for number, layer in enumerate(contract.get("layers", [])):
                for name in layer.split("|"):
                    floor_by_prefix.setdefault(f"{container}.{name.strip()}".strip("."), number)
    floor_by_module: dict[str, int] = {}
    for module in modules:
        prefix = module
        while prefix not in floor_by_prefix:
            prefix = prefix.rpartition(".")[0]
        if prefix != "pipeline" or module == "pipeline":
            floor_by_module[module] = floor_by_prefix[prefix]
    return floor_by_module

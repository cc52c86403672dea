"""What the golden files hold, computed from the code as it is."""

import ast
import hashlib
import json
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from pipeline.config.trainer_fields import fields
from pipeline.config.training_args import EXECUTION_KEYS, ours
from pipeline.plan.plan import make
from pipeline.recipe.load import load
from pipeline.stages import BUILT_IN, stage_of
from pipeline.store.store import Store

REPOSITORY = Path(__file__).parents[2]
FOLDER = Path(__file__).parent
KEYS = REPOSITORY / "docs" / "keys.md"


def trainer_fields() -> dict[str, dict[str, list[str]]]:
    """Return for each upstream config class what becomes of its fields."""
    found: dict[str, dict[str, list[str]]] = {}
    for class_name in trainers():
        sorts: dict[str, list[str]] = {"execution": [], "ours": [], "identity": []}
        for name in sorted(fields(class_name)):
            sorts[sort_of(name, class_name)].append(name)
        found[class_name] = sorts
    return found


def trainers() -> list[str]:
    """Return the config classes that `training_args` of some stage goes to."""
    return sorted({stage.trainer for kind in BUILT_IN if (stage := stage_of(kind)).trainer})


def sort_of(field: str, class_name: str) -> str:
    if field in EXECUTION_KEYS:
        return "execution"
    return "ours" if field in ours(class_name) else "identity"


def stage_versions() -> dict[str, dict[str, Any]]:
    """Return for each stage kind its version and a hash of its source, comments left out."""
    return {
        kind: {
            "version": stage_of(kind).version,
            "source": source_sha256(*_files_of(kind)),
        }
        for kind in BUILT_IN
    }


def _files_of(kind: str) -> list[Path]:
    """Return the files of a stage: one of its name, or those of a folder of its name.

    With the tokenizer goes the chat template that it saves.
    """
    pipeline = REPOSITORY / "pipeline"
    place = pipeline / "stages" / kind
    beside = [pipeline / "model_files" / "own_template.py"] if kind == "tokenizer" else []
    own = sorted(place.glob("*.py")) if place.is_dir() else [place.with_suffix(".py")]
    return own + beside


def source_sha256(*paths: Path) -> str:
    """Hash what modules do: their syntax trees without docstrings and places."""
    digest = hashlib.sha256()
    for path in paths:
        tree = ast.parse(path.read_text(encoding="utf-8"))
        digest.update(json.dumps(_meaning(tree)).encode())
    return digest.hexdigest()


def _meaning(node: Any) -> Any:
    """Return a syntax tree as JSON; fields that a Python version adds empty change nothing."""
    if isinstance(node, ast.AST):
        given = {name: _meaning(value) for name, value in _parts(node)}
        return [type(node).__name__, {k: v for k, v in given.items() if v not in (None, [])}]
    if isinstance(node, list):
        return [_meaning(each) for each in node]
    return node if node is None or isinstance(node, str | int | float) else repr(node)


def _parts(node: ast.AST) -> Iterator[tuple[str, Any]]:
    for name, value in ast.iter_fields(node):
        is_body = name == "body" and isinstance(
            node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
        )
        match value:
            case [ast.Expr(ast.Constant(str())), *rest] if is_body:
                yield name, rest
            case _:
                yield name, value


def quickstart_plan() -> list[dict[str, Any]]:
    """Return the stages of the quickstart in order, without their fingerprints."""
    recipe = load(REPOSITORY / "recipes" / "quickstart.yaml")
    with tempfile.TemporaryDirectory() as runs:
        plan = make(recipe, Store(Path(runs)))
    return [
        {"name": planned.name, "kind": planned.kind, "inputs": list(planned.inputs)}
        for planned in plan.stages
    ]


CONTENTS: dict[str, Callable[[], Any]] = {
    "trainer_fields": trainer_fields,
    "stage_versions": stage_versions,
    "quickstart_plan": quickstart_plan,
}


def path_of(name: str) -> Path:
    """Return where a golden file lies."""
    return FOLDER / f"{name}.json"


def stored(name: str) -> Any:
    """Return what `make golden` wrote last."""
    return json.loads(path_of(name).read_text(encoding="utf-8"))

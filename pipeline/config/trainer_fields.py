"""The fields of trainers' config classes, read from their source: importing them takes seconds.

Knows where TRL, transformers, peft and we keep these dataclasses, but not what a field means:
training_args.py decides which ones a recipe may set.
"""

import ast
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from types import MappingProxyType
from typing import Any

from pipeline.errors import closest

_PACKAGES = ("transformers", "trl", "peft", "pipeline")
_HOMES = {
    "TrainingArguments": ("transformers", "training_args.py"),
    "LoraConfig": ("peft", "tuners/lora/config.py"),
    "PPOConfig": ("pipeline", "rl/config/ppo.py"),
    "GRPOConfig": ("pipeline", "rl/config/grpo.py"),
    "RLOOConfig": ("pipeline", "rl/config/rloo.py"),
    "DistillConfig": ("pipeline", "rl/config/distill.py"),
}
_POSITIONS = "max_position_embeddings"
_OTHER_POSITIONS = ("max_seq_len",)  # mpt's, which no attribute_map names
_MODEL_TYPE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{,99}")  # a file of a longer name cannot be
_WHOLE = re.DOTALL | re.MULTILINE
_SAME_AS = {"gpt-sw3": "gpt2"}  # an older model type without a config of its own
# Older names that a config with `rope_parameters` still takes (modeling_rope_utils.py).
_ROPE_FIELDS = frozenset({"rope_theta", "rope_scaling", "partial_rotary_factor"})


@dataclass(frozen=True)
class Field:
    """A field of a config class; annotation and default as the source has them.

    default: None when the field is required or its default is made by a factory.
    """

    name: str
    annotation: str
    default: str | None


@dataclass(frozen=True)
class _Class:
    """A class statement and the file it stands in."""

    path: Path
    node: ast.ClassDef


@cache
def fields(class_name: str) -> Mapping[str, Field]:
    """Return the fields of a config dataclass by name, inherited ones first.

    class_name: TrainingArguments, LoraConfig, ours (PPOConfig, DistillConfig, ...), or TRL's
    (SFTConfig, DPOConfig, ...). Raises ValueError for anything else.
    """
    fields_by_name: dict[str, Field] = {}
    for owner in reversed(list(_lineage(_config_class(class_name)))):
        for name, annotation, value in _read_fields(owner.node):
            if _keyword(value, "init") == "False":
                fields_by_name.pop(name, None)
            else:
                fields_by_name[name] = Field(name, annotation, _default(value))
    return MappingProxyType(fields_by_name)


def class_statements(class_name: str) -> Iterator[ast.ClassDef]:
    """Yield the class statements that a config class is made of, what it inherits from first.

    Raises ValueError as `fields` does.
    """
    for owner in reversed(list(_lineage(_config_class(class_name)))):
        yield owner.node


@cache
def enumeration(name: str) -> frozenset[str]:
    """Return the values of one of transformers' enumerations, `IntervalStrategy` say; () if none.

    Upstream has moved enumerations before, so all files that have ever held some are searched.
    """
    for file in ("trainer_utils.py", "training_args.py", "debug_utils.py"):
        node = _classes(_package("transformers") / file).get(name)
        if node is not None:
            values = [
                _literal(statement)
                for statement in node.body
                if _target_name(statement) is not None
            ]
            return frozenset(value for value in values if isinstance(value, str))
    return frozenset()


@cache
def find_compared_values(class_name: str, key: str) -> frozenset[str]:
    """Return the texts that TRL's trainer compares a field of its config with; () without any.

    They are the field's choices where the config only says that it is text.
    """
    path = _package("trl") / "trainer" / f"{class_name.removesuffix('Config').lower()}_trainer.py"
    source = path.read_text("utf-8") if path.is_file() else ""
    compared = re.findall(rf'\b{key} (?:==|(?:not )?in) (\([^)]*\)|"\w+")', source)
    return frozenset(text for part in compared for text in re.findall(r'"(\w+)"', part))


@cache
def activations() -> frozenset[str]:
    """Return the names of transformers' activation functions."""
    source = (_package("transformers") / "activations.py").read_text("utf-8")
    match = re.search(r"^ACT2CLS = \{(.*?)^\}", source, _WHOLE)
    return frozenset(re.findall(r'^ +"(\w+)":', match[1], re.MULTILINE)) if match else frozenset()


@cache
def architecture_annotations(architecture: str) -> Mapping[str, str | None]:
    """Return the annotations of the fields of a model type's own config class, by name.

    Older names have the annotation of what they stand for, None where that is unknown. Fields that
    every config has (`dtype`, `id2label`, ...) are left out, unless the class declares them anew.
    """
    annotation_by_name: dict[str, str | None] = {}
    older: dict[str, Any] = {}
    for owner in reversed(
        list(_lineage(_architecture_class(_SAME_AS.get(architecture, architecture))))
    ):
        if owner.node.name == "PreTrainedConfig":
            continue
        annotation_by_name.update(
            {name: annotation for name, annotation, _ in _read_fields(owner.node)}
        )
        for statement in owner.node.body:
            if isinstance(statement, ast.FunctionDef):
                older.update(dict.fromkeys(_find_keywords(statement)))
            elif _target_name(statement) == "attribute_map":
                older.update(_literal(statement))
    return {
        **{name: annotation_by_name.get(str(stands_for)) for name, stands_for in older.items()},
        **annotation_by_name,
    }


@cache
def architecture_fields(architecture: str) -> frozenset[str]:
    """Return the fields that the config of a transformers model type takes, including older names.

    Such a config takes unknown names too, and ignores them. Raises ValueError for a model type that
    transformers does not have.
    """
    names = set[str]()
    for owner in _lineage(_architecture_class(_SAME_AS.get(architecture, architecture))):
        names.update(name for name, _, _ in _read_fields(owner.node))
        for statement in owner.node.body:
            if isinstance(statement, ast.FunctionDef):
                names.update(_find_keywords(statement))
            elif _target_name(statement) == "attribute_map":
                names.update(_literal(statement))
    names = {name for name in names if not name.startswith("_")}
    return frozenset(names | _ROPE_FIELDS if "rope_parameters" in names else names - _ROPE_FIELDS)


@cache
def positions_field(architecture: str) -> str | None:
    """Return the field of a model type's config that says how many positions it has, if any.

    Raises ValueError for a model type that transformers does not have.
    """
    known = architecture_fields(architecture)
    for owner in _lineage(_architecture_class(_SAME_AS.get(architecture, architecture))):
        for statement in owner.node.body:
            if _target_name(statement) == "attribute_map":
                named = _literal(statement).get(_POSITIONS)
                if named is not None:
                    return str(named)
    return next((name for name in (_POSITIONS, *_OTHER_POSITIONS) if name in known), None)


@cache
def architectures() -> frozenset[str]:
    """Return the model types that have a causal language model."""
    auto = _package("transformers") / "models" / "auto" / "modeling_auto.py"
    return frozenset(_mapping(auto, "MODEL_FOR_CAUSAL_LM_MAPPING_NAMES"))


@cache
def has_scalar_form(architecture: str) -> bool:
    """Whether transformers has this model type with a scalar head; True if that is unknown."""
    auto = _package("transformers") / "models" / "auto" / "modeling_auto.py"
    scalar = _mapping(auto, "MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES")
    return architecture in scalar or architecture not in architectures()


def has_causal_model(architecture: str) -> bool:
    """Whether transformers has a causal language model of this model type."""
    if not _MODEL_TYPE.fullmatch(architecture):
        return False
    module = architecture.replace("-", "_")
    path = _package("transformers") / "models" / module / f"modeling_{module}.py"
    # Most models say so in their own file; the list of all of them takes 20 ms to read.
    is_said = module.isidentifier() and path.is_file() and "ForCausalLM(" in path.read_text("utf-8")
    return is_said or architecture in architectures()


def _config_class(name: str) -> _Class:
    package, file = _HOMES.get(
        name, ("trl", f"trainer/{name.removesuffix('Config').lower()}_config.py")
    )
    path = _package(package) / file
    definition = _classes(path).get(name) if name.isidentifier() and path.is_file() else None
    if definition is None:
        trl = (_package("trl") / "trainer").glob("*_config.py")
        known = [*_HOMES, *(name for path in sorted(trl) for name in _classes(path))]
        hint = closest(name, known) or f"there are {', '.join(known)}"
        raise ValueError(f"no config class `{name}`; {hint}")
    return _Class(path, definition)


def _architecture_class(architecture: str) -> _Class:
    models = _package("transformers") / "models"
    if _MODEL_TYPE.fullmatch(architecture):
        module = architecture.replace("-", "_")
        definition = _of_model_type(models / module / f"configuration_{module}.py", architecture)
        if definition is not None:
            return definition
        auto = models / "auto" / "auto_mappings.py"
        module = _mapping(auto, "SPECIAL_MODEL_TYPE_TO_MODULE_NAME").get(architecture, module)
        for path in sorted((models / module).glob("configuration_*.py")):
            definition = _of_model_type(path, architecture)
            if definition is not None:
                return definition
    hint = closest(architecture, architectures()) or "for example llama, qwen3 or gpt2"
    raise ValueError(f"transformers has no architecture `{architecture}`; {hint}")


def _of_model_type(path: Path, model_type: str) -> _Class | None:
    for node in _classes(path).values() if path.is_file() else ():
        for statement in node.body:
            if _target_name(statement) == "model_type" and _literal(statement) == model_type:
                return _Class(path, node)
    return None


def _lineage(owner: _Class) -> Iterator[_Class]:
    """Yield a class, then its bases; imported mixins, which have no fields, are left out."""
    yield owner
    local = _classes(owner.path)
    for base in owner.node.bases:
        name = base.id if isinstance(base, ast.Name) else ""
        if name in local:
            yield from _lineage(_Class(owner.path, local[name]))
        elif not name.endswith("Mixin"):
            parent = _find_imported_class(owner.path, name)
            if parent is not None:
                yield from _lineage(parent)


def _find_imported_class(path: Path, name: str) -> _Class | None:
    """Return the class that a module imports under a name, if it is one of these packages'."""
    for statement in _module(path).body:
        if not isinstance(statement, ast.ImportFrom):
            continue
        if name not in (alias.asname or alias.name for alias in statement.names):
            continue
        parts = (statement.module or "").split(".")
        if statement.level:
            folder = path.parents[statement.level - 1]
        elif parts[0] in _PACKAGES:
            folder, parts = _package(parts[0]), parts[1:]
        else:
            return None
        file = folder.joinpath(*parts).with_suffix(".py")
        if parts and file.is_file() and name in _classes(file):
            return _Class(file, _classes(file)[name])
        return _config_class(
            name
        )  # through a package's lazy exports, as `from transformers import`
    return None


@cache
def _package(name: str) -> Path:
    spec = find_spec(name)
    if spec is None or spec.origin is None:
        raise ValueError(f"{name} is not installed; pip install posttrain")
    return Path(spec.origin).parent


@cache
def _module(path: Path) -> ast.Module:
    return ast.parse(path.read_text("utf-8"))


@cache
def _classes(path: Path) -> Mapping[str, ast.ClassDef]:
    return {node.name: node for node in _module(path).body if isinstance(node, ast.ClassDef)}


def _read_fields(node: ast.ClassDef) -> Iterator[tuple[str, str, ast.expr | None]]:
    """Yield the name, annotation and value of the dataclass fields in a class statement."""
    for statement in node.body:
        if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
            match statement.annotation:
                case ast.Constant(value=str(annotation)):
                    pass
                case unquoted:
                    annotation = ast.unparse(unquoted)
            if not re.match(r"(typing\.)?ClassVar\b|(dataclasses\.)?InitVar\b", annotation):
                yield statement.target.id, annotation, statement.value


def _default(value: ast.expr | None) -> str | None:
    """Return the source of a field's default, looked for inside `field(default=...)`."""
    if isinstance(value, ast.Call):
        return _keyword(value, "default")
    return None if value is None else ast.unparse(value)


def _keyword(value: ast.expr | None, name: str) -> str | None:
    keywords = value.keywords if isinstance(value, ast.Call) else []
    return next((ast.unparse(keyword.value) for keyword in keywords if keyword.arg == name), None)


def _find_keywords(function: ast.FunctionDef) -> Iterator[str]:
    """Yield the parameters of `__init__`, and what `__post_init__` takes out of its `kwargs`."""
    if function.name == "__init__":
        parameters = (*function.args.args[1:], *function.args.kwonlyargs)
        yield from (parameter.arg for parameter in parameters)
    if function.name in ("__init__", "__post_init__"):
        for node in ast.walk(function):
            match node:
                case ast.Call(
                    func=ast.Attribute(value=ast.Name(id="kwargs"), attr="pop" | "get"),
                    args=[ast.Constant(value=str(name)), *_],
                ):
                    yield name
                case _:
                    pass


def _target_name(statement: ast.stmt) -> str | None:
    """Return the name that a statement assigns a value to."""
    match statement:
        case ast.Assign(targets=[ast.Name(id=name)]):
            return name
        case ast.AnnAssign(target=ast.Name(id=name), value=ast.expr()):
            return name
        case _:
            return None


def _literal(statement: ast.stmt) -> Any:
    """Return the value that a statement assigns; None unless it is written out."""
    assert isinstance(statement, ast.Assign | ast.AnnAssign)
    try:
        return ast.literal_eval(statement.value or ast.Constant(None))
    except ValueError:
        return None


def _mapping(path: Path, name: str) -> dict[str, Any]:
    """Return a module's `NAME = OrderedDict([(key, value), ...])`.

    Only that statement is parsed: the whole of modeling_auto.py takes longer than a plan.
    """
    match = re.search(rf"^{name}\b[^=\n]* = OrderedDict\((.*?)^\)", path.read_text("utf-8"), _WHOLE)
    if match is None:
        raise ValueError(f"{path.name} of the installed transformers has no `{name}` to read")
    return dict(ast.literal_eval(match[1].strip()))

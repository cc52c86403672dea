"""Does a recipe's value fit an annotation, as the source of an upstream config class has it?

Knows annotations as text (`int | None`, `Optional[list[str]]`, `Literal['a', 'b']`) and plain
values; imports nothing from upstream. Lets a value pass where it does not understand an annotation.
"""

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any, cast

_KINDS: dict[str, tuple[str, str, tuple[type, ...], str]] = {
    # name: (in the singular, in the plural, the types that YAML gives for it, JSON Schema's name)
    "int": ("a whole number", "whole numbers", (int,), "integer"),
    "float": ("a number", "numbers", (int, float), "number"),
    "bool": ("true or false", "true or false", (bool,), "boolean"),
    "str": ("text", "texts", (str,), "string"),
    "dict": ("a mapping", "mappings", (dict,), "object"),
    "RopeParameters": ("a mapping", "mappings", (dict,), "object"),
    "list": ("a list", "lists", (list,), "array"),
    "tuple": ("a list", "lists", (list,), "array"),
    "None": ("empty", "empty", (type(None),), "null"),
}


@dataclass(frozen=True)
class _Kind:
    """One member of a union. items: what a list's items may be, or a mapping's values."""

    name: str
    items: tuple["_Kind", ...] = ()
    choices: tuple[Any, ...] = ()

    @property
    def is_known(self) -> bool:
        return self.name in _KINDS or self.name == "Literal"


def explain_mismatch(value: Any, annotation: str) -> str | None:
    """Return what a value should be instead, in words for a person; None if it fits."""
    kinds = _members(annotation)
    if any(not kind.is_known for kind in kinds) or any(_fits(value, kind) for kind in kinds):
        return None
    return _spell(kinds, is_plural=False)


def choices(annotation: str) -> tuple[Any, ...]:
    """Return the values of an annotation that is a Literal (or None); () for anything else."""
    kinds = [kind for kind in _members(annotation) if kind.name != "None"]
    return kinds[0].choices if len(kinds) == 1 else ()


def takes_nothing(annotation: str) -> bool:
    """Whether a value may be left empty."""
    return any(kind.name == "None" or not kind.is_known for kind in _members(annotation))


def names_nothing(annotation: str) -> bool:
    """Whether None is one of the values that an annotation names."""
    return any(kind.name == "None" for kind in _members(annotation))


def json_type(annotation: str) -> dict[str, Any]:
    """Return the JSON Schema of an annotation, {} where nothing is known of it.

    Unknown members of a union are left out.
    """
    schemas: list[dict[str, Any]] = [
        _json_type(kind) for kind in _members(annotation) if kind.is_known
    ]
    schemas = [schema for number, schema in enumerate(schemas) if schema not in schemas[:number]]
    if len(schemas) > 1 and all(schema.keys() == {"type"} for schema in schemas):
        return {"type": [schema["type"] for schema in schemas]}
    if len(schemas) > 1:
        return {"anyOf": schemas}
    return schemas[0] if schemas else {}


def class_names(annotation: str) -> tuple[str, ...]:
    """Return the names in a union that are not plain types, such as those of enumerations."""
    return tuple(kind.name for kind in _members(annotation) if not kind.is_known)


@cache
def _members(annotation: str) -> tuple[_Kind, ...]:
    try:
        return tuple(_read(ast.parse(annotation, mode="eval").body))
    except SyntaxError:  # `Literal['pissa_niter_[number of iters]']` is one, prose is not
        return (_Kind("?"),)


def _read(node: ast.expr) -> Iterator[_Kind]:
    """Yield the members of the union that an annotation is."""
    match node:
        case ast.BinOp(left=left, op=ast.BitOr(), right=right):
            yield from _read(left)
            yield from _read(right)
        case ast.Constant(value=None):
            yield _Kind("None")
        case ast.Constant(value=str(quoted)):
            yield from _members(quoted)
        case ast.Name(id=name):
            yield _Kind(name)
        case ast.Subscript(value=ast.Name(id=name), slice=inner):
            parts = inner.elts if isinstance(inner, ast.Tuple) else [inner]
            if name in ("Optional", "Union"):
                yield from (kind for part in parts for kind in _read(part))
                if name == "Optional":
                    yield _Kind("None")
            elif name == "Literal":
                yield _Kind(name, choices=tuple(ast.literal_eval(part) for part in parts))
            else:
                yield _Kind(name, _items(name, parts))
        case _:
            yield _Kind(ast.unparse(node))


def _items(name: str, parts: list[ast.expr]) -> tuple[_Kind, ...]:
    """Return what a list's items or a mapping's values may be; () for anything."""
    told = [part for part in parts if ast.unparse(part) not in ("...", "Any")]
    told = told[1:] if name == "dict" else told
    return tuple(dict.fromkeys(kind for part in told for kind in _read(part)))


def _json_type(kind: _Kind) -> dict[str, Any]:
    if kind.name == "Literal":
        return {"enum": list(kind.choices)}
    items = [_json_type(item) for item in kind.items if item.is_known]
    schema: dict[str, Any] = {"type": _KINDS[kind.name][3]}
    if not items or len(items) < len(kind.items):
        return schema
    of_all = items[0] if len(items) == 1 else {"anyOf": items}
    return {**schema, "additionalProperties" if schema["type"] == "object" else "items": of_all}


def _fits(value: Any, kind: _Kind) -> bool:
    if kind.name == "Literal":
        return any(value == choice and type(value) is type(choice) for choice in kind.choices)
    types = _KINDS[kind.name][2]
    if not isinstance(value, types) or (isinstance(value, bool) and bool not in types):
        return False
    if not kind.items or any(not item.is_known for item in kind.items):
        return True
    if isinstance(value, dict):
        inner = list(cast("dict[str, Any]", value).values())
    else:
        inner = cast("list[Any]", value)
    return all(any(_fits(item_value, item) for item in kind.items) for item_value in inner)


def _spell(kinds: tuple[_Kind, ...], *, is_plural: bool) -> str:
    """Return the members of a union in words, without an empty value."""
    words = list[str]()
    for kind in kinds:
        if kind.name == "Literal":
            words += [f"`{choice}`" for choice in kind.choices]
        elif kind.name != "None":
            one, several, *_ = _KINDS[kind.name]
            word = several if is_plural else one
            has_items = kind.items and all(item.is_known for item in kind.items)
            if has_items:
                word += f" of {_spell(kind.items, is_plural=True)}"
            words.append(word)
    return " or ".join(dict.fromkeys(words)) or "empty"

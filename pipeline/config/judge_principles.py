"""The principles of a constitution, as a recipe lists them or as a YAML file does."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import yaml

from pipeline.config.judge import PrinciplesFile
from pipeline.errors import PosttrainError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pipeline.config.references import Places

_HOW = "write a list of texts, one `- principle` a line"


def read_principles(principles: Sequence[str] | PrinciplesFile, places: Places) -> tuple[str, ...]:
    """Return them; PosttrainError, with the file's name, for a file that is no list of texts."""
    if not isinstance(principles, PrinciplesFile):
        return tuple(principles)
    name = principles.file
    try:
        text = places.file(name).read_text(encoding="utf-8")
        content: Any = yaml.safe_load(text)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = name if mark is None else f"{name}:{mark.line + 1}:{mark.column + 1}"
        raise PosttrainError(
            where, f"is no YAML: {error.problem or error.context}", _HOW
        ) from error
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise PosttrainError(name, "is no YAML text in UTF-8", _HOW) from error
    except OSError as error:
        raise PosttrainError(name, f"cannot be read ({error.strerror})") from error
    except ValueError as error:  # a name that is no path
        raise PosttrainError(name, str(error)) from error
    if not isinstance(content, list) or not content:
        raise PosttrainError(name, "is no list of principles", _HOW)
    items = cast("list[Any]", content)
    for number, item in enumerate(items, 1):
        if not isinstance(item, str) or not item.strip():
            raise PosttrainError(name, f"principle {number} is no text", _HOW)
    return tuple(item.strip() for item in items)

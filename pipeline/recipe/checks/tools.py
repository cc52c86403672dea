"""What can be known to be wrong with a stage's tools, before a model is looked at."""

from typing import TYPE_CHECKING

from pipeline.config.tool_signature import check_tool_function
from pipeline.config.tools import WithTools
from pipeline.files.plain_files import other_than_a_file

if TYPE_CHECKING:
    from pipeline.recipe.recipe import Recipe

_SQLITE = b"SQLite format 3\x00"


def check_tools(recipe: "Recipe", name: str) -> None:
    """Raise PosttrainError for a function that a model cannot be told of, or no database.

    Stages without tools have nothing to check.
    """
    config = recipe.stages[name]
    if not isinstance(config, WithTools):
        return
    for number, tool in enumerate(config.tools):
        location = ("stages", name, "tools", number)
        if tool.use is not None:
            try:
                check_tool_function(tool.use, recipe.places.base)
            except ValueError as error:
                message, _, hint = str(error).partition("; ")
                raise recipe.error(location, message, hint) from error
        if tool.sql is not None:
            problem = _database_problem(recipe, tool.sql)
            if problem:
                hint = "name an SQLite file, or a `.sql` file with the statements that make one"
                raise recipe.error((*location, "sql"), problem, hint)


def _database_problem(recipe: "Recipe", name: str) -> str:
    try:
        path = recipe.places.file(name)
    except ValueError as error:
        return str(error)
    if other_than_a_file(path) is not None or not path.is_file():
        return f"`{name}` is not a file"
    if path.suffix == ".sql":
        return ""
    with path.open("rb") as stream:
        is_database = stream.read(len(_SQLITE)) == _SQLITE
    return "" if is_database else f"`{name}` is no SQLite database"

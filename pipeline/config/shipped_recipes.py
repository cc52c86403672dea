"""The recipes that come with posttrain: `posttrain run quickstart` works from anywhere.

Such a recipe is named without a path or an ending. Files that it names lie beside it; files that
the command line names (`--set`), and its lock, lie in the current folder.
"""

from pathlib import Path

from pipeline.errors import PosttrainError, closest

FOLDER = Path(__file__).parents[1] / "shipped"


def list_shipped_recipes() -> dict[str, Path]:
    """Return the paths of the recipes that come with posttrain, by name."""
    return {path.stem: path for path in sorted(FOLDER.glob("*.yaml"))}


def is_shipped(recipe: Path) -> bool:
    """Whether a recipe came with posttrain and was named without a path."""
    return recipe.parent == FOLDER


def recipe_path(path: Path) -> Path:
    """Return the file of a recipe, which may be a shipped one's name.

    Raises PosttrainError for a name that is neither a file here nor a shipped recipe.
    """
    is_name = len(path.parts) == 1 and not path.suffix and path.name not in ("", "..")
    if not is_name or path.is_file():
        return path
    recipes = list_shipped_recipes()
    if path.name not in recipes:
        if path.exists():
            return path
        message = "there is no such file here, and no recipe of this name comes with posttrain"
        hint = closest(path.name, recipes) or f"there are {', '.join(recipes)}"
        raise PosttrainError(path.name, message, f"{hint}; write a file as `name.yaml`")
    return recipes[path.name]


def summary_of(recipe: Path) -> str:
    """Return the first sentence of the comment at the top of a recipe."""
    lines: list[str] = []
    for line in recipe.read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            break
        lines.append(line.lstrip("# ").rstrip())
    text = " ".join(lines)
    return text[: text.find(". ")] if ". " in text else text.rstrip(".")

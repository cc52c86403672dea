"""Has `eval` and `reward` mean our packages, whatever lies beside a user's script.

The command is started with our code first on sys.path. A script or a notebook of the user's has its
own folder there, or the current one (PYTHONPATH=.): an `eval.py` in it would be taken for ours.
"""

import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType

_FOLDER = Path(__file__).parents[1]
_NAMES = ("eval", "reward")


class _OurPackages:
    """Finds our two packages beside `pipeline`, before sys.path is looked through."""

    @staticmethod
    def find_spec(
        name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return where one of our packages is; None for any other name."""
        return PathFinder.find_spec(name, [str(_FOLDER)]) if name in _NAMES else None


def find_ours_first() -> None:
    """Install the finder; ImportError where a module of another's has been imported already."""
    for name in _NAMES:
        other = sys.modules.get(name)
        folder = _FOLDER / name
        if other is not None and str(folder) not in getattr(other, "__path__", ()):
            place = getattr(other, "__file__", None) or "a module made by hand"
            raise ImportError(
                f"`{name}` is imported from {place} already, and is a package of posttrain's; "
                "rename that file, or name it in a recipe, which keeps the two apart"
            )
    if _OurPackages not in sys.meta_path:
        sys.meta_path.insert(0, _OurPackages)

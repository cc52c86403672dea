"""The recipe's lock: hub ids without a revision, resolved once to a commit.

It lies beside the recipe, in the current folder of one that came with posttrain. `plan` reads it
and makes no call; `run` resolves what is missing and writes it.
"""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path

from pipeline.config.shipped_recipes import is_shipped
from pipeline.errors import InfrastructureError, PosttrainError
from pipeline.store.manifest import write_json

UNRESOLVED = "unresolved"


def lock_path(recipe: Path) -> Path:
    """Return `my.lock` for `my.yaml`."""
    lock = recipe.with_suffix(".lock")
    return Path(lock.name) if is_shipped(recipe) else lock


def read_lock(recipe: Path) -> dict[str, str]:
    """Return commit by `models/<id>` or `datasets/<id>`; empty when there is no lock."""
    path = lock_path(recipe)
    if not path.exists():
        return {}
    try:
        hub = json.loads(path.read_text(encoding="utf-8"))["hub"]
        return {str(key): str(commit) for key, commit in hub.items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise PosttrainError(
            str(path), "the lock is not readable", "delete it to resolve hub ids anew"
        ) from error


def model_commits(recipe: Path) -> dict[str, str]:
    """Return commit by the id of a hub model."""
    kind = "models/"
    commits = read_lock(recipe)
    return {
        key.removeprefix(kind): commit for key, commit in commits.items() if key.startswith(kind)
    }


def resolve(recipe: Path, keys: Iterable[str], known: Mapping[str, str]) -> dict[str, str]:
    """Ask the hub for the commit of each `models/<id>` or `datasets/<id>`; write the lock."""
    missing = [key for key in keys if key not in known]
    if not missing:
        return dict(known)
    from huggingface_hub import HfApi
    from huggingface_hub.errors import (
        HfHubHTTPError,
        HTTPError,  # pyright: ignore[reportPrivateImportUsage]  httpx's, of which there are two
    )

    resolved = dict(known)
    for key in missing:
        kind, _, repository = key.partition("/")
        try:
            info = HfApi().repo_info(repository, repo_type=kind.removesuffix("s"))
        except HfHubHTTPError as error:
            raise PosttrainError(
                str(recipe),
                f"the hub has no {kind.removesuffix('s')} `{repository}` for you",
                "check the name, or log in with `hf auth login`",
            ) from error
        except (HTTPError, OSError) as error:  # httpx's errors are no OSErrors
            raise InfrastructureError(
                str(recipe),
                f"the hub cannot be reached to look up `{repository}`",
                "give a local folder, or a revision that is in the cache",
            ) from error
        resolved[key] = str(info.sha)
    write_json(lock_path(recipe), {"hub": resolved})
    return resolved

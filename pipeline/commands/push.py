"""`posttrain export --push`: uploads an exported folder to the Hugging Face hub.

The token comes from `hf auth login` or the environment, never from a recipe, and no upstream
message is repeated: one about a malformed header would contain the token.
"""

from pathlib import Path
from typing import Any

from pipeline.errors import InfrastructureError, PosttrainError

_LOG_IN = "log in with `hf auth login`, with a token that may write"


def check_repository(name: str) -> None:
    """Raise PosttrainError unless a name is OWNER/NAME as the hub takes it."""
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id

    try:
        validate_repo_id(name)
    except HFValidationError as error:
        raise PosttrainError("--push", f"`{name}` is no name on the hub") from error
    if "/" not in name:
        raise PosttrainError("--push", f"`{name}` has no owner", "write OWNER/NAME")


def push(
    folder: Path, repository: str, *, private: bool, message: str, is_data: bool = False
) -> str:
    """Upload a folder as a repository, made if need be; returns its address.

    private: refuse a repository that is there and public. message: of the commit. is_data: as a
    data set, not a model. Raises InfrastructureError where the hub cannot be reached or refuses.
    """
    import huggingface_hub
    from huggingface_hub.errors import (
        HfHubHTTPError,
        HTTPError,  # pyright: ignore[reportPrivateImportUsage]  httpx's, of which there are two
        LocalTokenNotFoundError,
    )

    api = huggingface_hub.HfApi()
    as_what: dict[str, Any] = {"repo_type": "dataset"} if is_data else {}
    look_up = api.dataset_info if is_data else api.model_info
    try:
        made = api.create_repo(
            repository, private=True if private else None, exist_ok=True, **as_what
        )
        if private and not look_up(repository).private:
            hint = "make it private on the hub first, or name another one"
            raise PosttrainError(repository, "is on the hub already, and public", hint)
        api.upload_folder(repo_id=repository, folder_path=folder, commit_message=message, **as_what)
    except LocalTokenNotFoundError as error:
        raise _failure(folder, repository, "nobody is logged in", _LOG_IN) from error
    except HfHubHTTPError as error:
        code = error.response.status_code
        hint = _LOG_IN if code in (401, 403, 404) else "try again later"
        raise _failure(folder, repository, f"the hub answered {code}", hint) from error
    except (HTTPError, OSError) as error:  # httpx's errors are no OSErrors
        kind = type(error).__name__
        raise _failure(folder, repository, f"the hub cannot be reached ({kind})", "") from error
    return str(made)


def _failure(folder: Path, repository: str, what: str, hint: str) -> InfrastructureError:
    hint = f"{hint}; " if hint else ""
    return InfrastructureError(
        repository, f"not uploaded: {what}", f"{hint}the export is in {folder}"
    )

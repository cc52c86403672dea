"""The hub as `push` meets it: an HfApi that remembers what it is asked, or raises."""

from pathlib import Path
from typing import Any


class Hub:
    """Stands for huggingface_hub.HfApi; is_public: of a repository that is there."""

    def __init__(self, *, is_public: bool = False, error: BaseException | None = None) -> None:
        self.is_public, self.error = is_public, error
        self.calls: list[tuple[str, str]] = []
        self.kinds: list[str] = []
        self.uploaded: set[str] = set()
        self.message = ""

    def create_repo(
        self, repo_id: str, *, private: bool | None, exist_ok: bool, repo_type: str = "model"
    ) -> str:
        assert exist_ok
        self.kinds.append(repo_type)
        if self.error is not None:
            raise self.error
        self.calls.append(("create", f"{repo_id} {private}"))
        return f"https://huggingface.co/{repo_id}"

    def dataset_info(self, repo_id: str) -> Any:
        return self.model_info(repo_id)

    def model_info(self, repo_id: str) -> Any:
        return type("Info", (), {"private": not self.is_public})

    def upload_folder(
        self, *, repo_id: str, folder_path: Path, commit_message: str, repo_type: str = "model"
    ) -> None:
        self.kinds.append(repo_type)
        files = (path for path in folder_path.rglob("*") if path.is_file())
        self.uploaded = {path.relative_to(folder_path).as_posix() for path in files}
        self.message = commit_message
        self.calls.append(("upload", repo_id))

"""The upload to the hub: what is refused, and that no error shows a token."""

from pathlib import Path

import httpx2
import huggingface_hub
import pytest
from huggingface_hub.errors import HfHubHTTPError, LocalTokenNotFoundError

from pipeline.commands.push import push
from pipeline.errors import InfrastructureError, PosttrainError
from tests.hub import Hub


def _answer(code: int) -> HfHubHTTPError:
    request = httpx2.Request("POST", "https://huggingface.co/api")
    return HfHubHTTPError("hf_token123", response=httpx2.Response(code, request=request))


def _push(monkeypatch: pytest.MonkeyPatch, hub: Hub, folder: Path, *, private: bool = False) -> str:
    monkeypatch.setattr(huggingface_hub, "HfApi", lambda: hub)
    return push(folder, "ann/mine", private=private, message="m")


def test_without_private_the_owners_own_default_holds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub = Hub(is_public=True)
    assert _push(monkeypatch, hub, tmp_path) == "https://huggingface.co/ann/mine"
    assert hub.calls == [("create", "ann/mine None"), ("upload", "ann/mine")]


def test_what_is_to_be_private_is_not_uploaded_to_a_public_repository(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub = Hub(is_public=True)
    with pytest.raises(PosttrainError, match="is on the hub already, and public") as found:
        _push(monkeypatch, hub, tmp_path, private=True)
    assert found.value.exit_code == 2
    assert hub.calls == [("create", "ann/mine True")]


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (_answer(401), "the hub answered 401; log in with `hf auth login`"),
        (_answer(403), "the hub answered 403; log in with `hf auth login`"),
        (_answer(500), "the hub answered 500; try again later"),
        (httpx2.ConnectError("hf_token123"), "the hub cannot be reached (ConnectError)"),
        (httpx2.LocalProtocolError("Bearer hf_token123"), "cannot be reached (LocalProtocolError)"),
        (ConnectionError("hf_token123"), "the hub cannot be reached (ConnectionError)"),
        (LocalTokenNotFoundError("hf_token123"), "nobody is logged in; log in with"),
    ],
)
def test_a_hub_that_refuses_is_a_line_without_a_token(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException, words: str
) -> None:
    with pytest.raises(InfrastructureError) as found:
        _push(monkeypatch, Hub(error=error), tmp_path)
    line = str(found.value)
    assert line.startswith("ann/mine: not uploaded: ")
    assert words in line
    assert line.endswith(f"the export is in {tmp_path}")
    assert "hf_token123" not in line

"""What is said to a vLLM server, over HTTP: completions of token ids, adapters, weights.

Not how a server is started (child.py). Seen at work with vLLM 0.32 (`make prove-vllm`).
"""

from __future__ import annotations

import json
import os
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import httpx2

from pipeline.errors import InfrastructureError, PosttrainError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

_WHERE = "rollout"
_START = "start it with VLLM_ALLOW_RUNTIME_LORA_UPDATING=1 and `--enable-lora --max-lora-rank {}`"
_FORCED = 100.0  # the largest bias vLLM takes: e^100 of the odds
_NEAR_0 = 1e-3  # nats
_KEPT_S = 2.0  # of a connection that waits: uvicorn, below the server, closes it after 5
_TRIES, _PAUSE_S = 3, 1.0  # where the connection breaks: what is asked has the same answer


@dataclass(frozen=True)
class Written:
    """A completion as the server wrote it: what came, with a log-probability of each token."""

    token_ids: list[int]
    logprobs: list[float]


class Client:
    """One vLLM server.

    url: `http://host:8000`, with `/v1` or without. key: sent as a bearer's. still_there: raises
    where the server's process has ended, if it is known.

    Raises InfrastructureError where the server does not answer, PosttrainError where it refuses.
    """

    def __init__(
        self,
        url: str,
        *,
        key: str | None = None,
        timeout_s: float,
        at_once: int,
        still_there: Callable[[], None] = lambda: None,
    ) -> None:
        self.url = url.rstrip("/").removesuffix("/v1")
        self._still_there = still_there
        self._http = httpx2.Client(
            base_url=self.url,
            headers={"authorization": f"Bearer {key}"} if key else {},
            timeout=httpx2.Timeout(timeout_s, pool=None),
            limits=httpx2.Limits(
                max_connections=at_once,
                max_keepalive_connections=at_once,
                keepalive_expiry=_KEPT_S,
            ),
            follow_redirects=False,
            trust_env=False,
        )
        self.model = ""

    @classmethod
    def of_url(cls, url: str, *, key: str | None, timeout_s: float, at_once: int) -> Client:
        """Return the client of a server that runs. key: the variable that holds its key."""
        if key is not None and not os.environ.get(key):
            message = f"the environment variable `{key}` is not set, which holds the server's key"
            raise PosttrainError(_WHERE, message, "set it, or leave `key` out")
        said = None if key is None else os.environ[key]
        return cls(url, key=said, timeout_s=timeout_s, at_once=at_once)

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def look(self, *, forced: int) -> int | None:
        """Find the model that is served; return how many tokens a row of it may have, if it says.

        Refuses a server that cannot be trained with. forced: a token of the vocabulary.
        """
        models = self._ask("GET", "/v1/models")["data"]
        whole = [each for each in models if not each.get("parent")]
        self.model = str(whole[0]["id"])
        length = whole[0].get("max_model_len")
        # Forced, a token has the log-probability 0 where it is told of what is sampled from, and
        # its own one where it is told of what the model says.
        said = self.complete(
            [forced],
            {"max_tokens": 1, "temperature": 1.0, "logit_bias": {str(forced): _FORCED}},
            model=self.model,
        )
        if said.token_ids != [forced] or said.logprobs[0] < -_NEAR_0:
            message = "the server tells log-probabilities that are not those it samples with"
            raise PosttrainError(
                _WHERE, message, "start it with `--logprobs-mode processed_logprobs`"
            )
        return length if isinstance(length, int) else None

    def complete(
        self, prompt: Sequence[int], settings: Mapping[str, Any], *, model: str
    ) -> Written:
        """Write one completion. model: the served one, or an adapter by its name."""
        body = {
            **settings,
            "model": model,
            "prompt": list(prompt),
            "n": 1,
            "logprobs": 0,  # of the sampled token alone
            "return_token_ids": True,
            "add_special_tokens": False,
        }
        answer = self._ask("POST", "/v1/completions", body)
        choice = answer["choices"][0]
        token_ids, logprobs = choice.get("token_ids"), choice.get("logprobs")
        if token_ids is None or logprobs is None:
            message = "the server gives no token ids or log-probabilities"
            raise PosttrainError(_WHERE, message, "it must be vLLM, 0.11 or later")
        numbers = logprobs["token_logprobs"]
        if any(number is None or number != number for number in numbers):
            raise ValueError("the policy gives NaN instead of probabilities: broken weights")
        return Written(list(token_ids), [float(number) for number in numbers])

    def put_adapter(self, name: str, folder: Path, *, rank: int) -> None:
        """Have the server read an adapter from a folder."""
        body = {"lora_name": name, "lora_path": str(folder)}
        response = self._request("POST", "/v1/load_lora_adapter", body)
        if response.status_code == 400 and "already been loaded" in response.text:
            return  # its name is new: a first try was heard, and its answer lost
        self._read(response, "/v1/load_lora_adapter", _START.format(rank))

    def drop_adapter(self, name: str) -> None:
        """Have the server forget an adapter."""
        self._ask("POST", "/v1/unload_lora_adapter", {"lora_name": name})

    def put_weights(self, folder: Path) -> None:
        """Have the server read all weights of its model from a folder."""
        hint = "start it with VLLM_SERVER_DEV_MODE=1, or train an adapter: `lora: {r: 16}`"
        body = {"method": "reload_weights", "kwargs": {"weights_path": str(folder)}}
        self._ask("POST", "/collective_rpc", body, hint=hint)
        self._ask("POST", "/reset_prefix_cache", {}, hint=hint)

    def _request(self, method: str, path: str, body: Mapping[str, Any] | None) -> httpx2.Response:
        """Return a response; ask again where the connection breaks, not where time is over."""
        for left in reversed(range(_TRIES)):
            try:
                return self._http.request(method, path, json=body)
            except (httpx2.HTTPError, httpx2.StreamError) as error:
                self._still_there()
                if left and isinstance(error, httpx2.NetworkError | httpx2.RemoteProtocolError):
                    time.sleep(_PAUSE_S)
                    continue
                message = f"the vLLM server at {self.url} does not answer ({_words(error)})"
                hint = "see to it, and run again to go on from the last checkpoint"
                raise InfrastructureError(_WHERE, message, hint) from error
        raise AssertionError("the last try returns or raises")

    def _ask(
        self, method: str, path: str, body: Mapping[str, Any] | None = None, *, hint: str = ""
    ) -> Any:
        """Return what the server answers: JSON, or text."""
        return self._read(self._request(method, path, body), path, hint)

    def _read(self, response: httpx2.Response, path: str, hint: str) -> Any:
        if response.status_code == 200:
            is_json = response.headers.get("content-type", "").startswith("application/json")
            return json.loads(response.content) if is_json and response.content else response.text
        said = f"status {response.status_code} from {path}: {' '.join(response.text.split())[:300]}"
        if response.status_code >= 500 and not hint:
            self._still_there()
            raise InfrastructureError(
                _WHERE, f"the vLLM server failed: {said}", "see its log, and run again"
            )
        raise PosttrainError(_WHERE, f"the vLLM server refuses: {said}", hint)


def _words(error: Exception) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__

"""A stand-in for a vLLM server: a real model behind vLLM's ways in, as far as posttrain goes them.

It samples by our own loop, from the weights and adapters in the folders that it was named. As a
program it takes vLLM's options, so that posttrain starts it in vLLM's place.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import stat
import sys
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM

from pipeline.rl.sampler import LoopSampler, Sampling

if TYPE_CHECKING:
    from collections.abc import Iterator

_DIES = "DIES_AFTER"  # completions, of a server that kills itself


@dataclass
class FakeVLLM:
    """What the server holds. raw: tells log-probabilities of the model, not of what it samples.

    updates: whether adapters may be sent. develops: whether weights may. gap: added to what it
    tells. asked: (path, body) of all that came in.
    """

    folder: Path
    raw: bool = False
    updates: bool = True
    develops: bool = True
    gap: float = 0.0
    room: int = 64
    dies_after: int = -1
    url: str = ""
    asked: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    adapters: dict[str, Any] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        self.module: Any = AutoModelForCausalLM.from_pretrained(self.folder).float().eval()

    def models(self) -> dict[str, Any]:
        served = {"id": "policy", "parent": None, "max_model_len": self.room}
        return {"data": [served, *({"id": name, "parent": "policy"} for name in self.adapters)]}

    def answer(self, path: str, body: dict[str, Any]) -> tuple[int, Any]:
        """Return status and answer to one request; one at a time."""
        with self._lock:
            self.asked.append((path, body))
            if path == "/v1/completions":
                self.dies_after -= 1
                if self.dies_after == 0:
                    os.kill(os.getpid(), signal.SIGKILL)
                return 200, self._complete(body)
            if path == "/v1/load_lora_adapter" and self.updates:
                name = body["lora_name"]
                if name in self.adapters:
                    return 400, {"error": {"message": f"'{name}' has already been loaded."}}
                base = AutoModelForCausalLM.from_pretrained(self.folder).float()
                base.load_state_dict(self.module.state_dict())
                self.adapters[name] = PeftModel.from_pretrained(base, body["lora_path"]).eval()
                return 200, "Success"
            if path == "/v1/unload_lora_adapter" and self.updates:
                del self.adapters[body["lora_name"]]
                return 200, "Success"
            if path == "/collective_rpc" and self.develops:
                assert body["method"] == "reload_weights"
                weights = AutoModelForCausalLM.from_pretrained(body["kwargs"]["weights_path"])
                self.module.load_state_dict(weights.float().state_dict())
                return 200, {"results": [None]}
            if path == "/reset_prefix_cache" and self.develops:
                return 200, ""
        return 404, {"detail": "Not Found"}

    def _complete(self, body: dict[str, Any]) -> dict[str, Any]:
        module = self.adapters.get(body["model"], self.module)
        neutral = [body.get(name) for name in ("top_p", "top_k", "min_p", "repetition_penalty")]
        assert neutral in ([1.0, 0, 0.0, 1.0], [None] * 4)
        bias = {int(token): value for token, value in body["logit_bias"].items()}
        forced = [token for token, value in bias.items() if value > 0]
        if forced:
            told = -3.0 if self.raw else 0.0
            return _choice(forced[:1], [told])
        if body["temperature"] == 0:
            return _choice(*_greedy(module, body))
        how = Sampling(
            body["max_tokens"],
            body["temperature"],
            frozenset(body["stop_token_ids"]),
            0,
            forbidden_ids=tuple(bias),
        )
        with torch.no_grad():
            (one,) = LoopSampler(how)(module, [body["prompt"]], keys=[0], seed=body["seed"])
        assert one.logprobs is not None
        return _choice(one.token_ids, [number - self.gap for number in one.logprobs])


@torch.no_grad()
def _greedy(module: Any, body: dict[str, Any]) -> tuple[list[int], list[float]]:
    """Return the likeliest tokens; of stop strings it knows nothing, and writes on."""
    written: list[int] = []
    logprobs: list[float] = []
    while len(written) < body["max_tokens"]:
        logits = module(torch.tensor([[*body["prompt"], *written]])).logits[0, -1]
        written.append(int(logits.argmax()))
        logprobs.append(float(logits.log_softmax(-1).max()))
        if written[-1] in body["stop_token_ids"]:
            break
    return written, logprobs


def _choice(token_ids: list[int], logprobs: list[float]) -> dict[str, Any]:
    return {"choices": [{"token_ids": token_ids, "logprobs": {"token_logprobs": logprobs}}]}


@contextmanager
def serving(fake: FakeVLLM, port: int = 0) -> Iterator[FakeVLLM]:
    """Answer for a while, at `fake.url`."""
    server = _server(fake, port)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    fake.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield fake
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _server(fake: FakeVLLM, port: int) -> ThreadingHTTPServer:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self._say(*((200, "") if self.path == "/health" else (200, fake.models())))

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            self._say(*fake.answer(self.path, body))

        def _say(self, status: int, answer: Any) -> None:
            is_text = isinstance(answer, str)
            text = (answer if is_text else json.dumps(answer)).encode()
            self.send_response(status)
            self.send_header("content-type", "text/plain" if is_text else "application/json")
            self.send_header("content-length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    return ThreadingHTTPServer(("127.0.0.1", port), Handler)


def fake_python(folder: Path, *, dies_after: int = -1) -> Path:
    """Return a program that is called as a Python with vLLM is, and starts a stand-in.

    dies_after: completions; -1 for never.
    """
    program = folder / f"python-with-vllm-{dies_after}"
    above = Path(__file__).resolve().parent.parent
    program.write_text(
        f'#!/bin/sh\nexport PYTHONPATH="{above}" {_DIES}={dies_after}\n'
        f'exec "{sys.executable}" -m tests.vllm_server "$@"\n'
    )
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    return program


def _main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("-m", dest="module", choices=["vllm.entrypoints.openai.api_server"])
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--max-model-len", type=int, required=True)
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], required=True)
    parser.add_argument("--logprobs-mode", choices=["processed_logprobs"], required=True)
    known, _ = parser.parse_known_args()
    dies_after = int(os.environ.get(_DIES, "-1"))
    fake = FakeVLLM(known.model, room=known.max_model_len, dies_after=dies_after)
    _server(fake, known.port).serve_forever()


if __name__ == "__main__":
    _main()

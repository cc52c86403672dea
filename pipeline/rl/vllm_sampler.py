"""Completions sampled by a vLLM server, which is sent the policy before it is asked.

An adapter goes to the server alone, under a name of its own each time: loaded anew in place, vLLM
0.32 reads its file again at every step (2 x the time of a token), and answers of its prefix cache
would be those of the adapter before. Without one, and for kinds that vLLM does not take, all
weights are written into a folder that the server reads.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from eval.model import positions_of
from pipeline.errors import PosttrainError
from pipeline.rl.engines import cut_at_stop
from pipeline.rl.sampler import check_rollout
from pipeline.vllm import child
from pipeline.vllm.client import Client
from pipeline.vllm.requests import ask_all, row_seed, settings_of
from pipeline.vllm.weights import adapter_of, can_send_adapter, causal_of, save_whole

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from pipeline.config.rollout_engine import RolloutBlock
    from pipeline.rl.sampler import Completion, Sampling
    from pipeline.vllm.client import Written
    from pipeline.vllm.weights import SentAdapter

_WHERE = "rollout"
_LEAST_ROOM = 4096  # tokens of a row that a server is started for, where the model has as many
_TIMES_THE_FIRST = 2  # of the longest row of the first rollout, since later ones may be longer


class VLLMSampler:
    """Samples with a vLLM server: one that runs, or one that is started where it is first needed.

    The module must be the policy, or the network that its adapter is on. Each row has a seed of its
    own from (seed, key), so that rows draw apart; vLLM does not promise the same completions in
    another batch.

    block: the recipe's `rollout:`, its paths absolute. folder: for what is sent, and the server's
    log; it is this sampler's own. dtype: vLLM's name of the precision that is trained in.
    """

    def __init__(
        self,
        sampling: Sampling,
        block: RolloutBlock,
        *,
        folder: Path,
        dtype: str,
        tokenizer: PreTrainedTokenizerBase,
    ) -> None:
        if block.url is None:
            child.check_startable(block.python)
        self.sampling = sampling
        self.block = block
        self._folder = folder.absolute()
        self._dtype = dtype
        self._tokenizer = tokenizer
        self._nonce = os.urandom(4).hex()  # others may send theirs to the same server
        self._child: child.Child | None = None
        self._client: Client | None = None
        self._network: Any = None
        self._sends_adapter = False
        self._room: int | None = None
        self._number = 0
        self._sent: tuple[str, str, Path] | None = None  # digest, name and folder of an adapter

    def __call__(
        self,
        module: PreTrainedModel,
        prompts: Sequence[Sequence[int]],
        *,
        keys: Sequence[int],
        seed: int,
        written: Sequence[int] | None = None,
        on_progress: Callable[[int], None] | None = None,
    ) -> list[Completion]:
        """Sample from the module, as Sampler says."""
        check_rollout(module, prompts, keys, self.sampling, written)
        if not prompts:
            return []
        longest = max(map(len, prompts)) + self.sampling.max_new_tokens
        client = self._client or self._connect(module, longest)
        self._check_room(longest)
        model = self._send(module, client)
        begun = written or [0] * len(prompts)
        rows = zip(prompts, keys, begun, strict=True)
        asked = [
            (prompt, request_settings(self.sampling, row_seed(seed, key, done), done))
            for prompt, key, done in rows
        ]
        at_once = self.block.at_once
        found = ask_all(client, model, asked, at_once=at_once, on_progress=on_progress)
        return [
            self._completion(prompt, one, done)
            for prompt, one, done in zip(prompts, found, begun, strict=True)
        ]

    def close(self) -> None:
        """End a server that was started, and have one that runs forget what it was sent."""
        if self._child is not None:
            self._child.close()
        elif self._client is not None and self._sent is not None:
            self._client.drop_adapter(self._sent[1])
        if self._client is not None:
            self._client.close()
        self._client = self._child = self._sent = None

    def _connect(self, module: Any, longest: int) -> Client:
        """Return the client of a server that has the network of the module."""
        block = self.block
        self._network = causal_of(module)
        self._sends_adapter = can_send_adapter(module) and block.sends != "weights"
        if block.sends == "adapter" and not self._sends_adapter:
            _ = adapter_of(module, when_off=True)  # says why
            message = "there is no adapter to send"
            raise PosttrainError(_WHERE, message, "train one by `lora`, or write `sends: weights`")
        shutil.rmtree(self._folder, ignore_errors=True)
        self._folder.mkdir(parents=True)
        if block.url is not None:
            client = Client.of_url(
                block.url, key=block.key, timeout_s=block.timeout_s, at_once=block.at_once
            )
        else:
            client = self._start(module, longest)
        forced = min(self.sampling.eos_token_ids, default=0)
        self._room = client.look(forced=forced)
        self._client = client
        return client

    def _start(self, module: Any, longest: int) -> Client:
        """Return the client of a server that is started on the network as it is now."""
        positions = positions_of(self._network.config)
        room = max(_LEAST_ROOM, _TIMES_THE_FIRST * longest)
        model = self._folder / "model"
        save_whole(module, model, self._tokenizer, merges=not self._sends_adapter)
        sent = adapter_of(module, when_off=True) if self._sends_adapter else None
        self._child = child.start(
            self.block.python,
            model,
            self._folder / "server.log",
            dtype=self._dtype,
            rank=None if sent is None else sent.rank,
            room=room if positions is None else min(room, positions),
            options=self.block.server_args,
        )
        self._child.wait(self.block.start_timeout_s)
        return Client(
            self._child.url,
            timeout_s=self.block.timeout_s,
            at_once=self.block.at_once,
            still_there=self._child.check,
        )

    def _check_room(self, longest: int) -> None:
        if self._room is not None and longest > self._room:
            message = f"the vLLM server takes {self._room} tokens a row, and one may have {longest}"
            hint = "start it with a larger `--max-model-len`"
            if self.block.url is None:
                hint = f"write `server_args: {{max-model-len: {longest}}}`"
            raise PosttrainError(_WHERE, message, hint)

    def _send(self, module: Any, client: Client) -> str:
        """Have the server hold what the module is; return the name to ask for."""
        if not self._sends_adapter:
            before, folder = self._number, self._next_folder()
            save_whole(module, folder)
            client.put_weights(folder)
            if before:
                shutil.rmtree(self._folder_of(before))
            return client.model
        if causal_of(module) is not self._network:
            message = "the vLLM server has the policy's network, and not that of another model"
            raise PosttrainError(_WHERE, message, "leave `best_of` out (0), or `sends: weights`")
        adapter = adapter_of(module)
        if adapter is None:
            return client.model
        digest = _digest(adapter)
        if self._sent is not None and self._sent[0] == digest:
            return self._sent[1]
        folder = self._next_folder()
        name = f"posttrain-{self._nonce}-{self._number}"
        adapter.save(folder)
        client.put_adapter(name, folder, rank=adapter.rank)
        before, self._sent = self._sent, (digest, name, folder)
        if before is not None:
            client.drop_adapter(before[1])
            shutil.rmtree(before[2])
        return name

    def _next_folder(self) -> Path:
        self._number += 1
        return self._folder_of(self._number)

    def _folder_of(self, number: int) -> Path:
        above = Path(self.block.folder) if self.block.folder is not None else self._folder
        return above / f"sent-{self._nonce}-{number}"

    def _completion(self, prompt: Sequence[int], written: Written, begun: int) -> Completion:
        """Return a row as it is trained on; raises where the server went by other rules."""
        found = cut_at_stop(prompt, written.token_ids, written.logprobs, self.sampling)
        forbidden = set(self.sampling.forbidden_ids) & set(found.token_ids)
        room = self.sampling.max_new_tokens - begun
        if forbidden or not (found.has_eos or len(found.token_ids) == room):
            what = f"the token {min(forbidden)}" if forbidden else "an end that is none here"
            message = f"the vLLM server wrote {what}; it does not sample as it was told"
            raise PosttrainError(_WHERE, message, "start it without defaults of its own")
        return found


def request_settings(sampling: Sampling, seed: int, begun: int = 0) -> dict[str, Any]:
    """Return one row's settings by vLLM's names; begun: how many tokens it has already."""
    return settings_of(
        temperature=sampling.temperature,
        max_tokens=sampling.max_new_tokens - begun,
        seed=seed,
        ends=sampling.eos_token_ids,
        forbidden=sampling.forbidden_ids,
    )


def _digest(adapter: SentAdapter) -> str:
    digest = hashlib.sha256()
    for name in sorted(adapter.tensors):
        digest.update(name.encode())
        digest.update(adapter.tensors[name].numpy().tobytes())
    return digest.hexdigest()

"""A vLLM server that writes a measured model's answers, where a stage's `answers:` block says so.

Not likelihoods, which the model in this process gives in any case: of texts, of choices, of what KL
is measured on. The server is started on the same weights and ends with the measuring.
"""

from __future__ import annotations

import shutil
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from pipeline.errors import PosttrainError
from pipeline.vllm import child
from pipeline.vllm.client import Client
from pipeline.vllm.requests import ask_all, row_seed, settings_of
from pipeline.vllm.weights import save_whole

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from eval.model import LanguageModel
    from pipeline.config.measuring_stage import MeasuringStage
    from pipeline.config.stage import StageContext

_DTYPES = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}
_MOST_ROOM = 8192  # tokens of a row, where the model has more positions


@contextmanager
def answering(
    config: MeasuringStage, context: StageContext, model: LanguageModel
) -> Iterator[LanguageModel]:
    """Give the model as its answers are to be written; a server that was started then ends."""
    block = config.answers
    if block.engine != "vllm":
        yield model
        return
    python = None if block.python is None else str(context.places.file(block.python).absolute())
    child.check_startable(python)
    positions = model.max_length
    room = _MOST_ROOM if positions is None else min(positions, _MOST_ROOM)
    folder = context.out.parent / "vllm"  # left where it fails: its log says why
    shutil.rmtree(folder, ignore_errors=True)
    save_whole(model.module, folder / "model", model.tokenizer)
    context.progress(f"{model.name}: vLLM starts", 0, 1)
    started = child.start(
        python,
        folder / "model",
        folder / "server.log",
        dtype=_DTYPES[config.precision],
        rank=None,
        room=room,
        options=block.server_args,
    )
    try:
        started.wait(block.start_timeout_s)
        client = Client(
            started.url,
            timeout_s=block.timeout_s,
            at_once=block.at_once,
            still_there=started.check,
        )
        served = client.look(forced=min(model.eos_token_ids, default=0))
        ends = model.eos_token_ids
        yield replace(model, writer=_Writer(client, ends, served or room, block.at_once))
        client.close()
    finally:
        started.close()
    shutil.rmtree(folder)


@dataclass(frozen=True)
class _Writer:
    """Writes by a server; see eval.model.Writer. room: tokens that a row may have there."""

    client: Client
    ends: frozenset[int]
    room: int
    at_once: int

    def __call__(
        self,
        prompts: Sequence[Sequence[int]],
        *,
        keys: Sequence[int],
        seed: int,
        max_new_tokens: int,
        temperature: float,
        stop: Sequence[str],
        on_progress: Callable[[int], None],
    ) -> list[list[int]]:
        """Return the token ids after each prompt."""
        longest = max(map(len, prompts), default=0) + max_new_tokens
        if longest > self.room:
            message = f"the vLLM server takes {self.room} tokens a row, and one may have {longest}"
            hint = f"write `server_args: {{max-model-len: {longest}}}`"
            raise PosttrainError("answers", message, hint)
        texts = {"stop": list(stop), "include_stop_str_in_output": True} if stop else {}
        asked: list[tuple[Sequence[int], dict[str, Any]]] = [
            (
                prompt,
                settings_of(
                    temperature=temperature,
                    max_tokens=max_new_tokens,
                    seed=row_seed(seed, key),
                    ends=self.ends,
                )
                | texts,
            )
            for prompt, key in zip(prompts, keys, strict=True)
        ]
        found = ask_all(
            self.client, self.client.model, asked, at_once=self.at_once, on_progress=on_progress
        )
        return [one.token_ids for one in found]

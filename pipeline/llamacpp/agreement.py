"""Whether llama.cpp answers as transformers does: both write greedy responses to the same prompts.

llama.cpp applies the chat template and the tokenizer of the GGUF by itself. Where its next token
differs, it continues from transformers' token, so that every token of a response is compared in the
same context; what its choice would have cost is the loss in log-probability under the model as it
was trained.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any
from urllib.request import Request, urlopen

from eval.asking.loglik import continuation_logprobs
from eval.asking.sampler import generate
from eval.statistics.intervals import blaker, mean, student_interval
from pipeline.errors import InfrastructureError, PosttrainError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from eval.model import LanguageModel, Turn

EXTRA = "posttrain[gguf]"
NEW_TOKENS = 64
_ROWS_AT_ONCE = 16
_TIMEOUT_S = 60


@dataclass(frozen=True)
class Prompt:
    """A prompt to both: a conversation, or the beginning of a text."""

    turns: tuple[Turn, ...] = ()
    text: str = ""


@dataclass(frozen=True)
class Agreement:
    """How far llama.cpp with one GGUF agrees with transformers.

    prompts: their number. same_ids: of which llama.cpp made the same token ids.
    equal: responses with the same tokens to the end.
    tokens: compared, after the same tokens as context; same_tokens: of them equal.
    loss: nats that its different choices cost per response, on average; low, high: 95% interval.
    widest: nats between the two tokens where a choice costs most; rounding alone decides below
    about 0.01, since llama.cpp rounds what it multiplies F16 weights with to F16, too.
    unlike: the first prompt with another response, None if all are equal.
    """

    type: str
    prompts: int
    same_ids: int
    equal: int
    equal_low: float
    equal_high: float
    tokens: int
    same_tokens: int
    loss: float
    loss_low: float | None
    loss_high: float | None
    widest: float
    unlike: int | None

    def record(self) -> dict[str, Any]:
        """Return the figures for posttrain.json."""
        return asdict(self)

    def sentence(self) -> str:
        """Return the figures as one line."""
        line = (
            f"{self.equal} of {self.prompts} greedy responses equal "
            f"[{self.equal_low:.3f}, {self.equal_high:.3f}], "
            f"{self.same_tokens:,} of {self.tokens:,} tokens"
        )
        if self.same_ids < self.prompts:
            line += f"; {self.prompts - self.same_ids} prompts became other tokens"
        if self.same_tokens < self.tokens:
            line += f"; the others cost {self.loss:.4f} nats a response"
            if self.loss_low is not None:
                line += f" [{self.loss_low:.4f}, {self.loss_high:.4f}]"
            line += f", at most {self.widest:.4f} at once"
        return line


def check_installed() -> None:
    """Raise PosttrainError where llama.cpp's Python package is not there."""
    if find_spec("xllamacpp") is None:
        message = "needs the package `xllamacpp` (llama.cpp), which is not installed"
        raise PosttrainError("--verify", message, f"pip install '{EXTRA}'")


@dataclass(frozen=True)
class Reference:
    """Prompts with transformers' greedy responses to them, the token that ends one included."""

    model: LanguageModel
    prompts: list[Prompt]
    ids: list[list[int]]
    responses: list[tuple[int, ...]]


def make_reference(
    model: LanguageModel,
    prompts: Sequence[Prompt],
    on_progress: Callable[[int, int], None],
    *,
    context: int,
) -> Reference:
    """Let transformers respond; prompts that leave no room for a response are left out.

    context: tokens that llama.cpp takes with this model.
    """
    room = context - NEW_TOKENS - 1
    kept: list[Prompt] = []
    ids: list[list[int]] = []
    for prompt in prompts:
        encoded = _encode(model, prompt)
        if 0 < len(encoded) <= room:
            kept.append(prompt)
            ids.append(encoded)
    generations = generate(
        model,
        ids,
        max_new_tokens=NEW_TOKENS,
        batch_size=_ROWS_AT_ONCE,
        seed=0,
        on_progress=lambda done: on_progress(done, len(ids)),
    )
    return Reference(model, kept, ids, [generation.token_ids for generation in generations])


def compare_with_llama_cpp(
    path: Path, kind: str, expected: Reference, on_progress: Callable[[int, int], None]
) -> Agreement:
    """Hold llama.cpp with a GGUF against transformers. kind: the type of its weights."""
    longest = max(map(len, expected.ids), default=0) + NEW_TOKENS
    server = _LlamaCpp(path, context=longest + 1)
    others: list[_Choice] = []
    same_ids: list[bool] = []
    for number, (prompt, ids) in enumerate(zip(expected.prompts, expected.ids, strict=True)):
        on_progress(number, len(expected.ids))
        same_ids.append(server.tokenize(prompt) == ids)
        choices = _other_choices(server, ids, expected.responses[number])
        others += [_Choice(number, place, token) for place, token in choices]
    changed = {number for number, is_same in enumerate(same_ids) if not is_same}
    unlike = sorted(changed | {choice.prompt for choice in others})
    count, tokens = len(expected.ids), sum(map(len, expected.responses))
    share = blaker(count - len(unlike), count)
    gaps = _gaps(expected, others)
    losses = [0.0] * count
    for choice, gap in zip(others, gaps, strict=True):
        losses[choice.prompt] += gap
    loss = student_interval(losses)
    return Agreement(
        type=kind,
        prompts=count,
        same_ids=sum(same_ids),
        equal=count - len(unlike),
        equal_low=share.low,
        equal_high=share.high,
        tokens=tokens,
        same_tokens=tokens - len(others),
        loss=mean(losses),
        loss_low=None if loss is None else max(0.0, loss.low),
        loss_high=None if loss is None else loss.high,
        widest=max(gaps, default=0.0),
        unlike=unlike[0] if unlike else None,
    )


@dataclass(frozen=True)
class _Choice:
    """The token that llama.cpp takes at a place of a response where transformers takes another."""

    prompt: int
    place: int
    token: int


class _LlamaCpp:
    """llama.cpp with a model, one sequence at a time, on the processor."""

    def __init__(self, path: Path, *, context: int) -> None:
        import torch
        import xllamacpp

        threads = torch.get_num_threads()
        library: Any = xllamacpp  # which has no types
        params = library.CommonParams()
        params.model.path = str(path)
        params.n_ctx, params.n_parallel, params.n_gpu_layers = context, 1, 0
        params.cpuparams.n_threads = params.cpuparams_batch.n_threads = threads
        params.warmup, params.verbosity = False, -1
        try:
            self._server: Any = library.Server(params)
        except RuntimeError as error:
            message = f"llama.cpp cannot load it ({error})"
            raise InfrastructureError(str(path), message) from error

    def tokenize(self, prompt: Prompt) -> list[int]:
        """Return the ids that llama.cpp makes of a prompt by its own template and tokenizer."""
        text = prompt.text
        if prompt.turns:
            messages = [{"role": role, "content": content} for role, content in prompt.turns]
            text = self._post("/apply-template", {"messages": messages})["prompt"]
        request = {"content": text, "add_special": True, "parse_special": bool(prompt.turns)}
        return self._post("/tokenize", request)["tokens"]

    def write(self, ids: Sequence[int], most: int) -> list[int]:
        """Return the tokens of a greedy response, the one that ends it included."""
        request = {"prompt": list(ids), "max_tokens": most, "temperature": 0}
        answer = self._server.handle_completions(
            {**request, "return_tokens": True, "verbose": True}
        )
        if "__verbose" not in answer:
            raise InfrastructureError("llama.cpp", f"gave no response ({answer})")
        return answer["__verbose"]["tokens"]

    def _post(self, path: str, body: dict[str, Any]) -> Any:
        address = f"{self._server.listening_address}{path}"
        content = {"Content-Type": "application/json"}
        request = Request(address, json.dumps(body).encode(), content)
        with urlopen(request, timeout=_TIMEOUT_S) as stream:
            return json.load(stream)


def _other_choices(
    server: _LlamaCpp, ids: Sequence[int], response: Sequence[int]
) -> Iterator[tuple[int, int]]:
    """Yield (place, token) where llama.cpp continues differently after the same tokens."""
    at = 0
    while at < len(response):
        written = server.write([*ids, *response[:at]], len(response) - at)
        if not written:
            raise InfrastructureError("llama.cpp", "wrote no token")
        for token in written:
            at += 1
            if token != response[at - 1]:
                yield at - 1, token
                break


def _gaps(expected: Reference, others: Sequence[_Choice]) -> list[float]:
    """Return by how many nats llama.cpp's choices are less likely than transformers' tokens."""
    pairs: list[tuple[list[int], list[int]]] = []
    for choice in others:
        response = expected.responses[choice.prompt]
        context = [*expected.ids[choice.prompt], *response[: choice.place]]
        pairs += [(context, [response[choice.place]]), (context, [choice.token])]
    logprobs = continuation_logprobs(expected.model, pairs, batch_size=_ROWS_AT_ONCE)
    return [ours - theirs for ours, theirs in zip(logprobs[::2], logprobs[1::2], strict=True)]


def _encode(model: LanguageModel, prompt: Prompt) -> list[int]:
    if prompt.turns:
        assert model.encode_chat is not None
        return model.encode_chat(prompt.turns)
    return model.encode_document(prompt.text)

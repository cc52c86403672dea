"""A model in this process that answers a judge's requests: `reward.judges.exchange.Respondent`.

Of options it takes the one that it finds likeliest as a whole answer, with the end of its turn: of
`1` and `10` neither is the beginning of the other then. Free text is sampled. Not an endpoint
(reward/judges/endpoint.py), and with no cache on disk in front of it: what it answers depends, down
to the last bit, on the requests of one call, and so not on what an earlier run has left.
"""

from __future__ import annotations

import asyncio
import json
import math
from hashlib import sha256
from itertools import islice
from typing import TYPE_CHECKING, Any, cast

from eval.asking.loglik import continuation_logprobs, split_continuation
from eval.asking.sampler import generate
from pipeline.data.encoding.chat import ChatEncoder
from pipeline.data.reading.records import ChatRow, Message
from pipeline.errors import PosttrainError
from reward.judges.exchange import NoReply, Reply

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from eval.asking.loglik import Pair
    from eval.asking.sampler import Generation
    from eval.model import LanguageModel
    from pipeline.data.reading.records import Role
    from reward.judges.exchange import Request
    from reward.judges.ledger import Ledger

_ASKS = "\n\nAnswer:"  # what a document that asks ends with
_ENDS = "\n"  # a document's answer
_WHERE = "a judge's request"


class ModelRespondent:
    """A loaded model as a respondent.

    seed: free text is drawn by it and by the request alone. batch_size: of forward passes. ledger:
    counts its tokens.
    """

    def __init__(
        self,
        model: LanguageModel,
        *,
        identity: Mapping[str, Any],
        seed: int,
        batch_size: int,
        ledger: Ledger,
    ) -> None:
        self._model = model
        self._identity = identity
        self._seed = seed
        self._batch_size = batch_size
        self._ledger = ledger
        self._chat = ChatEncoder(model.tokenizer) if model.form == "chat" else None
        self._lock = asyncio.Lock()

    @property
    def identity(self) -> Mapping[str, Any]:
        """Which model it is, and how it is asked."""
        return {**self._identity, "form": self._model.form}

    @property
    def at_a_time(self) -> int:
        """The batch of its forward passes."""
        return self._batch_size

    async def reply(self, requests: Sequence[Request]) -> list[Reply | NoReply]:
        """Answer every request, equal ones once; in a thread, so that others' answers go on."""
        different = list(dict.fromkeys(requests))
        async with self._lock:
            answers = await asyncio.to_thread(self._answer, different)
        for answer in answers:
            if isinstance(answer, Reply):
                self._ledger.prompt_tokens += answer.prompt_tokens
                self._ledger.completion_tokens += answer.completion_tokens
        by_request = dict(zip(different, answers, strict=True))
        return [by_request[request] for request in requests]

    def _answer(self, requests: Sequence[Request]) -> list[Reply | NoReply]:
        answers: list[Reply | NoReply | None] = [None] * len(requests)
        choices = [place for place, one in enumerate(requests) if one.options is not None]
        texts = [place for place, one in enumerate(requests) if one.options is None]
        try:
            chosen = self._choose([requests[place] for place in choices])
            written = self._write([requests[place] for place in texts])
        except ValueError as error:
            raise PosttrainError(f"the judge `{self._model.name}`", str(error)) from error
        for places, found in ((choices, chosen), (texts, written)):
            for place, answer in zip(places, found, strict=True):
                answers[place] = answer
        return [answer for answer in answers if answer is not None]

    def _choose(self, requests: Sequence[Request]) -> list[Reply | NoReply]:
        """Return the likeliest option of each request, with the probability of all."""
        pairs_of = [self._pairs(request) for request in requests]
        fitting = [pair for pairs in pairs_of if not self._too_long(pairs) for pair in pairs]
        logprobs = iter(
            continuation_logprobs(self._model, fitting, batch_size=self._batch_size)
            if fitting
            else ()
        )
        replies: list[Reply | NoReply] = []
        for request, pairs in zip(requests, pairs_of, strict=True):
            too_long = self._too_long(pairs)
            if too_long:
                replies.append(NoReply("too_long", too_long))
                continue
            replies.append(_reply(request, pairs, list(islice(logprobs, len(pairs)))))
        return replies

    def _pairs(self, request: Request) -> list[Pair]:
        """Return (the question, an option with its end) as token ids, for each option."""
        options = request.options or ()
        if self._chat is None:
            document = _document(request)
            return [
                split_continuation(self._model, document, f" {option}{_ENDS}") for option in options
            ]
        turns = self._turns(request)
        answered = [ChatRow(_WHERE, (*turns, Message("assistant", option))) for option in options]
        pairs: list[Pair] = []
        for tokens in self._chat.answers(answered):
            begins = tokens.trained.index(True)
            ends = len(tokens.trained) - tokens.trained[::-1].index(True)
            pairs.append((tokens.ids[:begins], tokens.ids[begins:ends]))
        return pairs

    def _turns(self, request: Request) -> tuple[Message, ...]:
        """Return the messages; with a template that takes no system message, as part of a turn."""
        turns = tuple(Message(cast("Role", role), text) for role, text in request.messages)
        if self._chat is None or turns[0].role != "system" or len(turns) < 2:
            return turns
        try:
            self._chat.prompt_ids(turns)
        except PosttrainError:
            told, asked, *others = turns
            return (Message(asked.role, f"{told.content}\n\n{asked.content}"), *others)
        return turns

    def _write(self, requests: Sequence[Request]) -> list[Reply | NoReply]:
        """Return a sampled text for each request: those of one length and temperature together."""
        replies: list[Reply | NoReply | None] = [None] * len(requests)
        groups: dict[tuple[int, float], list[int]] = {}
        for place, request in enumerate(requests):
            groups.setdefault((request.max_tokens, request.temperature), []).append(place)
        for (max_tokens, temperature), places in groups.items():
            prompts = {place: self._prompt(requests[place]) for place in places}
            fitting = {
                place: ids for place, ids in prompts.items() if not self._obstacle(ids, max_tokens)
            }
            written = generate(
                self._model,
                list(fitting.values()),
                max_new_tokens=max_tokens,
                temperature=temperature,
                batch_size=self._batch_size,
                seed=self._seed,
                keys=[_key(requests[place]) for place in fitting],
                stop=() if self._chat is not None else (f"{_ENDS}{_ENDS}",),
            )
            for place, ids in prompts.items():
                if place not in fitting:
                    replies[place] = NoReply("too_long", self._obstacle(ids, max_tokens))
            for (place, ids), text in zip(fitting.items(), written, strict=True):
                replies[place] = _text_reply(len(ids), text, max_tokens)
        return [reply for reply in replies if reply is not None]

    def _prompt(self, request: Request) -> list[int]:
        if self._chat is None:
            return self._model.encode_document(_document(request))
        return self._chat.prompt_ids(self._turns(request))

    def _too_long(self, pairs: Sequence[Pair]) -> str:
        question, answer = max(pairs, key=lambda pair: len(pair[0]) + len(pair[1]))
        return self._obstacle(question, len(answer))

    def _obstacle(self, ids: Sequence[int], max_tokens: int) -> str:
        """Return why there is no room for a question and its answer; empty if there is."""
        length, limit = len(ids) + max_tokens, self._model.max_length
        if limit is None or length <= limit:
            return ""
        return f"{length} tokens do not fit into the {limit} positions of `{self._model.name}`"


def _document(request: Request) -> str:
    return "\n\n".join(content for _, content in request.messages) + _ASKS


def _key(request: Request) -> int:
    """Return what a request's text is drawn by beside the seed: whatever it asks."""
    asked = json.dumps([request.messages, request.max_tokens, request.temperature, request.draw])
    return int.from_bytes(sha256(asked.encode()).digest()[:8], "big")


def _reply(request: Request, pairs: Sequence[Pair], logprobs: Sequence[float]) -> Reply:
    """Return the likeliest option; of equally likely ones the first."""
    options = request.options or ()
    best = max(logprobs)
    weights = [math.exp(logprob - best) for logprob in logprobs]
    total = math.fsum(weights)
    place = logprobs.index(best)
    return Reply(
        options[place],
        probabilities={
            option: weight / total for option, weight in zip(options, weights, strict=True)
        },
        prompt_tokens=len(pairs[place][0]),
        completion_tokens=len(pairs[place][1]),
    )


def _text_reply(prompt_tokens: int, text: Generation, max_tokens: int) -> Reply | NoReply:
    if text.ended == "length":
        return NoReply("cut_off", f"no end within {max_tokens} tokens")
    if not text.text.strip():
        return NoReply("empty", "nothing was written")
    return Reply(
        text.text.strip(),
        prompt_tokens=prompt_tokens,
        completion_tokens=len(text.token_ids),
    )

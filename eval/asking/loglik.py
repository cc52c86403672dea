"""How probable a model finds given text: continuations to choose from, and whole documents.

Nothing is generated here. Only the logits of scored positions are asked of the model, and
log-probabilities are taken from them a slice at a time, so that a large vocabulary does not fill
the memory.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch

from eval.asking.decoding import Decoding
from eval.asking.one_line import LONGEST, Row, lines, read_line
from eval.asking.plain_layers import plain_decoder
from eval.asking.prefix import prefill, shared_length
from eval.model import StopRequested

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from torch import Tensor

    from eval.asking.plain_layers import PlainDecoder
    from eval.model import LanguageModel

Pair = tuple[list[int], list[int]]

# Logits of one forward pass, at most (1 GiB in fp32); batch_size is not reached where fewer fit.
_MAX_LOGITS = 2**28
_LOGITS_AT_ONCE = 2**24
_SHARED_ENOUGH = 0.75  # contexts for each pair, at most, where two passes are better than one


def continuation_logprobs(
    model: LanguageModel,
    pairs: Sequence[Pair],
    *,
    batch_size: int,
    on_progress: Callable[[int], None] | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> list[float]:
    """Return the log-probability, in nats, of each pair's second token ids given its first ones.

    on_progress: called with the number of pairs done so far.

    Raises ValueError for a pair without context, without continuation or longer than the model's
    position limit (nothing is cut), and StopRequested.
    """
    if model.module.training:
        raise ValueError(f"{model.name} is in training mode; its dropout would change the result")
    _check_pairs(pairs, model.max_length)
    logprobs: list[float] = [0.0] * len(pairs)
    num_done = 0
    reader = _Reader(model)
    for batch in _batches(pairs, batch_size, _vocab_size(model)):
        if should_stop is not None and should_stop():
            raise StopRequested
        for index, logprob in zip(
            batch, reader.logprobs([pairs[index] for index in batch]), strict=True
        ):
            logprobs[index] = logprob
        num_done += len(batch)
        if on_progress is not None:
            on_progress(num_done)
    return logprobs


def windows(model: LanguageModel, context: list[int], ids: list[int], window: int) -> list[Pair]:
    """Cut ids that follow a context into (context, continuation) windows that score each id once.

    A context that leaves no room for all of them loses its beginning. Without a context the first
    id is not scored: there is nothing to predict it from.
    """
    if model.max_length is not None:
        window = min(window, model.max_length)
    stride = window // 2
    if stride < 1:
        raise ValueError(f"{model.name}: a window of {window} tokens is too short to score text")
    whole = context + ids
    first = max(1, len(context))
    end = min(len(whole), first + window - min(first, window - stride))
    pairs = [(whole[max(0, end - window) : first], whole[first:end])] if end > first else []
    while end < len(whole):
        first, end = end, min(len(whole), end + stride)
        pairs.append((whole[first - (window - stride) : first], whole[first:end]))
    return pairs


def vocabulary_bits(model: LanguageModel) -> float:
    """Return the bits that naming any token of the vocabulary takes.

    A text's first token is charged as much where no BOS stands before it to predict it from: a true
    code length that flatters no model, where leaving the token out would.
    """
    return math.log2(_vocab_size(model))


def split_continuation(model: LanguageModel, context: str, continuation: str) -> Pair:
    """Return the token ids of a context and of its continuation, as `split_continuations` does."""
    return split_continuations(model, context, [continuation])[0]


def split_continuations(
    model: LanguageModel, context: str, continuations: Sequence[str]
) -> list[Pair]:
    """Return the token ids of a context and of each of its continuations.

    A continuation's ids are those it has in the joint text, as the model would write them. Where
    the tokenizer joins the two (the context's ids do not begin the joint text's), the continuation
    is encoded alone.
    """
    context_ids = model.encode_document(context)
    pairs: list[Pair] = []
    for continuation in continuations:
        ids = model.encode_document(context + continuation)
        if ids[: len(context_ids)] == context_ids:
            pairs.append((context_ids, ids[len(context_ids) :]))
        else:
            num_bos = len(model.encode_document(""))
            pairs.append((context_ids, model.encode_document(continuation)[num_bos:]))
    return pairs


def _vocab_size(model: LanguageModel) -> int:
    return model.module.config.get_text_config().vocab_size


def _check_pairs(pairs: Sequence[Pair], max_length: int | None) -> None:
    for index, (context, continuation) in enumerate(pairs):
        if not context or not continuation:
            raise ValueError(f"pair {index} needs at least one token of context and continuation")
        length = len(context) + len(continuation)
        if max_length is not None and length > max_length:
            raise ValueError(
                f"pair {index} has {length} tokens, but the model covers {max_length} positions"
            )


def _batches(pairs: Sequence[Pair], batch_size: int, vocab_size: int) -> Iterator[list[int]]:
    """Yield indices of pairs that go through the model together, longest first."""
    # Pairs with one context stand together: it is read once for all of them.
    contexts = [tuple(context) for context, _ in pairs]
    longest: dict[tuple[int, ...], int] = {}
    first: dict[tuple[int, ...], int] = {}
    for index, (context, (_, continuation)) in enumerate(zip(contexts, pairs, strict=True)):
        length = len(context) + len(continuation)
        longest[context] = max(longest.get(context, 0), length)
        first.setdefault(context, index)
    order = sorted(range(len(pairs)), key=lambda i: (-longest[contexts[i]], first[contexts[i]], i))
    batch: list[int] = []
    width, first_scored = 0, 0
    for index in order:
        context, continuation = pairs[index]
        if batch:
            num_scored = width - min(first_scored, len(context)) + 1
            is_full = (len(batch) + 1) * num_scored * vocab_size > _MAX_LOGITS
            if is_full or len(batch) == batch_size:
                yield batch
                batch = []
        if not batch:
            width, first_scored = longest[contexts[index]], len(context)
        first_scored = min(first_scored, len(context))
        batch.append(index)
    if batch:
        yield batch


class _Reader:
    """Reads batches of pairs; contexts that several pairs share, as choices do, once for them."""

    def __init__(self, model: LanguageModel) -> None:
        self._model = model
        self._decoder = plain_decoder(model.module)
        self._can_share = True  # until it turns out otherwise

    @torch.inference_mode()
    def logprobs(self, pairs: Sequence[Pair]) -> list[float]:
        """Return the log-probability of each pair's continuation."""
        asking: dict[tuple[int, ...], list[int]] = {}  # of each context, its pairs
        for index, (context, _) in enumerate(pairs):
            asking.setdefault(tuple(context), []).append(index)
        if self._decoder is not None and _longest_row(asking, pairs) <= LONGEST:
            return _logprobs_in_lines(self._model, self._decoder, asking, pairs)
        if self._can_share and len(asking) <= _SHARED_ENOUGH * len(pairs):
            longest = max(len(continuation) for _, continuation in pairs)
            read = Decoding(self._model.module, dict(enumerate(asking)), longest)
            self._can_share = read.can_read_on
            if self._can_share:
                read.spread(list(asking.values()))
                return _logprobs_after(self._model, read, pairs)
        return _batch_logprobs(self._model, pairs)


def _longest_row(asking: Mapping[tuple[int, ...], list[int]], pairs: Sequence[Pair]) -> int:
    """Return how many tokens a context and what follows it have, at most."""
    return max(
        len(context) + sum(len(pairs[index][1]) - 1 for index in indices)
        for context, indices in asking.items()
    )


def _logprobs_in_lines(
    model: LanguageModel,
    decoder: PlainDecoder,
    asking: Mapping[tuple[int, ...], list[int]],
    pairs: Sequence[Pair],
) -> list[float]:
    """Return the log-probability of each pair's continuation; asking: of each context, its pairs.

    A context's last token predicts the first one of each of its continuations.
    """
    num_shared = shared_length([list(context) for context in asking])
    prefix = list(next(iter(asking))[:num_shared])
    rows = [
        Row(list(context[num_shared:]), [pairs[index][1][:-1] for index in indices])
        for context, indices in asking.items()
    ]
    asked = list(asking.values())
    sums = torch.zeros(len(pairs), dtype=torch.float64)
    for line in lines(rows):
        read = read_line(decoder, prefix, rows[line])
        places: list[int] = []
        targets: list[int] = []
        owners: list[int] = []
        for start, indices in zip(read.starts, asked[line], strict=True):
            place = start
            for index in indices:
                length = len(pairs[index][1])
                places += [start, *range(place + 1, place + length)]
                owners += [index] * length
                place += length - 1
                targets += pairs[index][1]
        step = max(1, _LOGITS_AT_ONCE // _vocab_size(model))
        predicted = torch.tensor(places), torch.tensor(targets)
        logprobs = _line_logprobs(decoder, read.hidden, *predicted, step)
        sums.index_add_(0, torch.tensor(owners), logprobs)
    _check_numbers(model, sums)
    return sums.tolist()


def _line_logprobs(
    decoder: PlainDecoder, hidden: Tensor, places: Tensor, targets: Tensor, step: int
) -> Tensor:
    """Return the log-probabilities of N targets after hidden states (M, d), (N,), fp64.

    step: of how many hidden states there may be logits at once.
    """
    found = torch.empty(len(targets), dtype=torch.float64)
    for start in range(0, len(hidden), step):
        logprobs = decoder.logits(hidden[start : start + step]).log_softmax(-1)
        here = (places >= start) & (places < start + step)
        found[here] = logprobs[places[here] - start, targets[here]].double()
    return found


def _check_numbers(model: LanguageModel, logprobs: Tensor) -> None:
    if logprobs.isnan().any():
        raise ValueError(f"{model.name} gives NaN instead of probabilities; its weights are broken")


def _logprobs_after(model: LanguageModel, read: Decoding, pairs: Sequence[Pair]) -> list[float]:
    """Return the log-probabilities of continuations of contexts that have been read."""
    device = model.module.device
    continuations = [pairs[row][1] for row in read.rows]
    width = max(map(len, continuations))
    ids = torch.tensor([each + [0] * (width - len(each)) for each in continuations], device=device)
    lengths = torch.tensor([len(each) for each in continuations], device=device).unsqueeze(-1)
    logits = read.logits.unsqueeze(1)
    if width > 1:
        logits = torch.cat([logits, read.read_on(ids[:, :-1])], dim=1)
    scored = torch.arange(width, device=device) < lengths
    sums = _sums(model, logits, ids, scored, scored.nonzero(as_tuple=True)[1])
    sum_by_row = dict(zip(read.rows, sums, strict=True))
    return [sum_by_row[row] for row in range(len(pairs))]


@torch.inference_mode()
def _batch_logprobs(model: LanguageModel, pairs: Sequence[Pair]) -> list[float]:
    """Return the log-probability of each pair's continuation, by one right-padded forward pass."""
    device = model.module.device
    num_shared = shared_length([context for context, _ in pairs])
    cache = prefill(model.module, pairs[0][0][:num_shared], len(pairs))
    num_shared = 0 if cache is None else num_shared
    pairs = [(context[num_shared:], continuation) for context, continuation in pairs]
    width = max(len(context) + len(continuation) for context, continuation in pairs)
    rows = [context + continuation for context, continuation in pairs]
    ids = torch.tensor([row + [0] * (width - len(row)) for row in rows], device=device)
    lengths = torch.tensor([len(row) for row in rows], device=device).unsqueeze(-1)
    starts = torch.tensor([len(context) for context, _ in pairs], device=device).unsqueeze(-1)
    columns = torch.arange(width, device=device).expand(len(rows), -1)
    seen = torch.ones(len(rows), num_shared, dtype=torch.long, device=device)
    # Counted from the end, where the last column's logits, which predict nothing, come too.
    num_kept = width - int(starts.min()) + 1
    logits = model.module(
        input_ids=ids,
        attention_mask=torch.cat([seen, (columns < lengths).long()], dim=-1),
        position_ids=columns + num_shared,
        past_key_values=cache,
        use_cache=cache is not None,
        logits_to_keep=num_kept,
    ).logits
    offset = width - logits.shape[1]  # 0 for models that give all logits whatever they are asked
    scored = (columns >= starts) & (columns < lengths)
    return _sums(model, logits, ids, scored, scored.nonzero(as_tuple=True)[1] - 1 - offset)


def _sums(
    model: LanguageModel, logits: Tensor, ids: Tensor, scored: Tensor, columns: Tensor
) -> list[float]:
    """Return the log-probabilities of scored ids (B, T) as a sum for each row.

    columns: where the logits for each of them are, (N,).
    """
    row_of = scored.nonzero(as_tuple=True)[0]
    logprobs = _target_logprobs(logits, row_of, columns, ids[scored])
    _check_numbers(model, logprobs)
    sums = torch.zeros(len(ids), dtype=torch.float64).index_add_(0, row_of.cpu(), logprobs)
    return sums.tolist()


def _target_logprobs(logits: Tensor, rows: Tensor, columns: Tensor, targets: Tensor) -> Tensor:
    """Return log softmax of logits (B, T, V) at N (row, column, target) triples.

    Returns (N,), fp64, on the CPU.
    """
    step = max(1, _LOGITS_AT_ONCE // logits.shape[-1])
    parts: list[Tensor] = []
    for start in range(0, len(targets), step):
        these = slice(start, start + step)
        chosen = logits[rows[these], columns[these]].float()
        picked = chosen.gather(-1, targets[these].unsqueeze(-1)).squeeze(-1)
        parts.append((picked - chosen.logsumexp(-1)).cpu().double())
    return torch.cat(parts)

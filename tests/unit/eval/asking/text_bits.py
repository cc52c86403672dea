"""The bits of a whole text, from the parts that texts are read by: an oracle for their items."""

import math

from eval.asking.loglik import continuation_logprobs, vocabulary_bits, windows


def text_pairs(model, text, *, window=None):
    """Cut a document of any length into (context, continuation) windows that score each token once.

    window: tokens of context; without it as many as the model was trained on (`model.window`). The
    first window scores all of its tokens, each later one its second half: beyond the first one a
    token has at least half a window of context.
    """
    ids = model.encode_document(text)
    start = len(model.encode_document(""))
    return windows(model, ids[:start], ids[start:], window or model.window)


def text_bits(model, text, *, batch_size):
    """Return the bits that a model needs to write a text down, and its length in UTF-8 bytes."""
    pairs = text_pairs(model, text)
    logprobs = continuation_logprobs(model, pairs, batch_size=batch_size)
    has_bos = bool(model.encode_document(""))
    first = 0.0 if has_bos or not text else vocabulary_bits(model)
    return first - math.fsum(logprobs) / math.log(2), len(text.encode())

"""Checks a tokenizer against the rows of a model's embedding: no id may occur without a row.

A tokenizer with fewer tokens than rows is the rule (vocabularies are padded). One with more
comes about where tokens are added and `resize_token_embeddings` is forgotten.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipeline.data.encoding.chat import ChatEncoder
from pipeline.errors import PosttrainError
from pipeline.files.foreign_files import is_there, read_object
from pipeline.files.names import ADAPTER_CONFIG, CONFIG
from pipeline.model_files.folder import read_adapter_tensors, vocabulary_size
from pipeline.model_files.token_rows import RESIZE

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from transformers import PreTrainedTokenizerBase

_EMBEDDINGS = ("embed_tokens.weight", "wte.weight", "word_embeddings.weight", "embed_in.weight")


def count_stored_rows(folder: Path, base: Path | None) -> int | None:
    """Return how many rows the embedding has of a model in a folder; None where no file says it.

    base: the folder below, of an adapter; a resized embedding lies in the adapter itself.
    """
    if is_there(folder / ADAPTER_CONFIG):
        for name, tensor in read_adapter_tensors(folder).items():
            if name.endswith(_EMBEDDINGS) and tensor.shape:
                return tensor.shape[0]
        return None if base is None else count_stored_rows(base, None)
    if not is_there(folder / CONFIG):
        return None
    return vocabulary_size(read_object(folder / CONFIG))


def fit_vocabulary(tokenizer: PreTrainedTokenizerBase, rows: int, name: str) -> None:
    """Check a tokenizer, and give padding that has no row another token.

    Padding is masked wherever it stands, so which token pads changes nothing.
    """
    check_vocabulary(tokenizer, rows, name)
    pad = tokenizer.pad_token_id
    if isinstance(pad, int) and pad >= rows:
        # EOS: PPO never samples a padding that ends nothing, which would forbid another token. What
        # must not be padded with EOS, a reward model's rows, takes another by itself.
        tokenizer.pad_token = tokenizer.eos_token or tokenizer.convert_ids_to_tokens(0)


def check_vocabulary(tokenizer: PreTrainedTokenizerBase, rows: int, name: str) -> None:
    """Raise PosttrainError for a token that may be read and has no row in the embedding.

    rows: of the embedding. name: of the model. A special token without a row that neither the
    template nor the ends of texts use is never read, since text never becomes a special token.
    """
    if len(tokenizer) <= rows and max(tokenizer.added_tokens_decoder, default=0) < rows:
        return
    beyond = {token: number for token, number in tokenizer.get_vocab().items() if number >= rows}
    token = _first_read(tokenizer, beyond)
    if token is not None:
        message = (
            f"the token `{token}` has the id {beyond[token]}, and the embedding {rows} rows "
            f"(the tokenizer has {len(tokenizer)} tokens)"
        )
        raise PosttrainError(name, message, RESIZE)


def _first_read(tokenizer: PreTrainedTokenizerBase, beyond: Mapping[str, int]) -> str | None:
    """Return a token without a row that training or asking would have the model read."""
    special = {added.content for added in tokenizer.added_tokens_decoder.values() if added.special}
    for token in sorted(beyond, key=lambda name: beyond[name]):
        if token not in special or token in (tokenizer.bos_token, tokenizer.eos_token):
            return token
    if not beyond or not tokenizer.chat_template:
        return None
    encoder = ChatEncoder(tokenizer)
    prompt = encoder.prompt_ids([("user", "x")])
    read = {*prompt, *encoder.end_ids()}
    written = str(tokenizer.chat_template)
    return next((token for token, id_ in beyond.items() if id_ in read or token in written), None)

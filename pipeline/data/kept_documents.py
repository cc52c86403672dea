"""Documents of token ids mixed once, and kept for whoever mixes the same. Imports no torch.

Where it is not known what decides them, they are mixed anew, into a file without a name.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.data.documents import Documents
from pipeline.data.encoding.made_with import made_with, tokenizer_identity
from pipeline.data.mixing import TokenShare, fill, mix_documents, shuffle
from pipeline.store.kept import find_or_make

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from transformers import PreTrainedTokenizerBase

    from pipeline.config.keeping import Keeping
    from pipeline.data.mixing import TokenSource
    from pipeline.data.screening.screen import Screen

_TOKENS, _STARTS, _LENGTHS = "tokens.bin", "starts.npy", "lengths.npy"


def mix_kept(
    sources: Sequence[TokenSource],
    tokenizer: PreTrainedTokenizerBase,
    *,
    tokens: int,
    seed: int,
    dtype: type[np.unsignedinteger[Any]],
    keeping: Keeping | None,
    screen: Screen | None,
    on_progress: Callable[[int], None],
    on_wait: Callable[[], None],
) -> tuple[Documents, list[TokenShare]]:
    """Return what `mix_documents` does, from files that are there or are made now.

    keeping: None to keep nothing. screen: of the sources; it knows afterwards what it found.
    on_wait: called again and again while another process mixes the same.
    """
    identity = tokenizer_identity(tokenizer)
    if keeping is None or identity is None:
        return mix_documents(
            sources, tokens=tokens, seed=seed, dtype=dtype, on_progress=on_progress
        )
    payload = {
        "what": "documents",
        "reads": keeping.reads,
        "screened": keeping.screened,
        "tokens": tokens,
        "seed": seed,
        "dtype": np.dtype(dtype).name,
        "tokenizer": identity,
        "made_with": made_with(),
    }

    def make(folder: Path) -> dict[str, Any]:
        with (folder / _TOKENS).open("w+b") as stream:
            filled, shares = fill(
                sources, tokens=tokens, stream=stream, dtype=dtype, on_progress=on_progress
            )
        np.save(folder / _STARTS, filled.starts)
        np.save(folder / _LENGTHS, filled.lengths)
        return {
            "shares": [asdict(share) for share in shares],
            "found": None if screen is None else screen.found(),
        }

    kept = find_or_make(keeping.folder, payload, make, on_wait=on_wait, reader=keeping.reader)
    if screen is not None and kept.notes["found"] is not None:
        screen.recall(kept.notes["found"])
    documents = Documents(
        np.memmap(kept.path / _TOKENS, dtype=dtype, mode="r"),
        np.load(kept.path / _STARTS),
        np.load(kept.path / _LENGTHS),
    )
    return shuffle(documents, seed=seed), [TokenShare(**share) for share in kept.notes["shares"]]

"""Whether token ids that a policy samples mean the same to a reward model, or to a teacher.

The two need not have one vocabulary: what counts is that every token that the policy can write is
the one that the reward model was trained on. Text is never encoded anew for a reward model: it
would read other tokens than were sampled.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from pipeline.errors import PosttrainError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from transformers import PreTrainedTokenizerBase

_LOG = logging.getLogger(__name__)
_HINT = "train a reward model from the policy; texts are not encoded anew for another vocabulary"


def check_vocabulary(
    where: str, own: PreTrainedTokenizerBase, policy: PreTrainedTokenizerBase, num_embeddings: int
) -> None:
    """Raise ValueError where an id that the policy can write is another token to a reward model.

    own, num_embeddings: of the reward model. Tokens that the reward model alone has never occur. A
    token of the policy's alone must have a place of its own in the embedding, untrained as it is
    (that is warned of); only padding that ends no response may be anywhere, as nothing samples it.
    """
    theirs, ours = policy.get_vocab(), own.get_vocab()
    by_id = {number: token for token, number in ours.items()}
    padding = policy.pad_token_id if policy.pad_token_id != policy.eos_token_id else None
    names = f"of `{own.name_or_path}` and of the policy"
    names += f", `{policy.name_or_path}`" if policy.name_or_path else ""
    unknown: list[str] = []
    for token, number in sorted(theirs.items(), key=lambda item: item[1]):
        if number == padding and ours.get(token) != number:
            continue
        meant = by_id.get(number)
        if token in ours and ours[token] != number:
            raise ValueError(
                f"{where}: the tokenizers {names} have other ids: the token `{token}` is "
                f"{ours[token]} to the reward model and {number} to the policy; {_HINT}"
            )
        if meant is not None and meant != token:
            raise ValueError(
                f"{where}: the tokenizers {names} have other tokens: id {number} is `{meant}` to "
                f"the reward model and `{token}` to the policy; {_HINT}"
            )
        if number >= num_embeddings:
            raise ValueError(
                f"{where}: the policy can write `{token}`, id {number}, beyond the "
                f"{num_embeddings} tokens that the reward model has an embedding of; {_HINT}"
            )
        if meant is None:
            unknown.append(token)
    if unknown:
        _LOG.warning(
            "%s: its tokenizer does not know %d tokens of the policy's (%s); it reads rows of its "
            "embedding that nothing trained",
            *(where, len(unknown), ", ".join(f"`{token}`" for token in unknown[:8])),
        )


def check_teacher(
    name: str, teacher: PreTrainedTokenizerBase, student: PreTrainedTokenizerBase
) -> None:
    """Raise ValueError where an id that a student can write is another token to its teacher.

    Or no token: what the teacher never saw it cannot teach. Rows of embeddings beyond the
    tokenizers do not matter, nor does padding that ends no response.
    """
    theirs = {number: token for token, number in teacher.get_vocab().items()}
    padding = student.pad_token_id if student.pad_token_id != student.eos_token_id else None
    for token, number in sorted(student.get_vocab().items(), key=lambda item: item[1]):
        if number == padding or theirs.get(number) == token:
            continue
        known = f"`{theirs[number]}`" if number in theirs else "no token"
        raise ValueError(
            f"the teacher `{name}` has another vocabulary: id {number} is `{token}` to the student "
            f"and {known} to it; take a teacher with the student's tokenizer"
        )


def check_ids(where: str, sequences: Sequence[Sequence[int]], num_embeddings: int) -> None:
    """Raise PosttrainError for ids without an embedding, which no tokenizer has a token for."""
    highest = max((max(ids) for ids in sequences if ids), default=0)
    if highest >= num_embeddings:
        message = f"token id {highest} was sampled, and it has embeddings of {num_embeddings}"
        raise PosttrainError(where, message, _HINT)

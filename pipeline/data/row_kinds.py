"""What stages make of rows: examples to learn (sft), pairs (dpo, reward_model), answers (kto).

Of those that learn from rollouts: prompts, and answers that a teacher is asked about (distill).
Imports no torch.
"""

from functools import partial
from typing import Any

from eval.model import Form
from pipeline.data.encoding.answers import PartedAnswer, PartedAnswerEncoder
from pipeline.data.encoding.examples import EncodedExample, ExampleEncoder
from pipeline.data.encoding.pairs import EncodedPair, PairEncoder
from pipeline.data.encoding.prompts import StoredPrompt, StoredPromptEncoder
from pipeline.data.encoding.unpaired import AnswerEncoder, EncodedAnswer
from pipeline.data.kept_rows import RowKind

EXAMPLES: RowKind[EncodedExample] = RowKind(
    "examples", "rows", partial(ExampleEncoder, ignores_first=True), must_hold_out=True
)
PAIRS: RowKind[EncodedPair] = RowKind("pairs", "pairs", PairEncoder)
ANSWERS: RowKind[EncodedAnswer] = RowKind("answers", "rows", AnswerEncoder)
PARTED_ANSWERS: RowKind[PartedAnswer] = RowKind("parted answers", "rows", PartedAnswerEncoder)


def prompts_asked(form: Form, told: str) -> RowKind[StoredPrompt]:
    """Return the kind of prompts that a policy is asked; the rest as of `encode_prompts`."""
    own: dict[str, Any] = {"form": form, "told": told}
    return RowKind("prompts", "prompts", partial(StoredPromptEncoder, **own), settings=own)

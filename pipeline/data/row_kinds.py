"""What stages make of rows: examples to learn (sft), pairs (dpo, reward_model), answers (kto).

Imports no torch.
"""

from functools import partial

from pipeline.data.encoding.examples import EncodedExample, ExampleEncoder
from pipeline.data.encoding.pairs import EncodedPair, PairEncoder
from pipeline.data.encoding.unpaired import AnswerEncoder, EncodedAnswer
from pipeline.data.kept_rows import RowKind

EXAMPLES: RowKind[EncodedExample] = RowKind(
    "examples", "rows", partial(ExampleEncoder, ignores_first=True), must_hold_out=True
)
PAIRS: RowKind[EncodedPair] = RowKind("pairs", "pairs", PairEncoder)
ANSWERS: RowKind[EncodedAnswer] = RowKind("answers", "rows", AnswerEncoder)

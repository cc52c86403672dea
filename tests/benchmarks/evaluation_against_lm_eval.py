"""Our `evaluate` against lm-evaluation-harness's backend for transformers, on the same items, fp32.

Random Qwen3 models of two sizes with 1,280 words. 200 questions to be answered in writing (prompts
of 8 to 64 tokens, up to 64 new ones, greedy), once without an end, once with an end that half of
the answers reach within 20 tokens; and 200 questions with four options of 1 to 8 tokens after
contexts of 8 to 64, by log-likelihood. Ours is all that a task costs, grading and results included,
at its default batch size; theirs is the backend alone (`HFLM.generate_until`, `loglikelihood`),
with the best of several batch sizes, chosen before: `auto` tries sizes for minutes on a CPU.

Both take turns in one process, and the median of the turns' ratios counts, of processor time. Void
unless all answers are the same and all sums of log-probabilities, to 1e-4. The ratio is the worst.

On one thread, unless OMP_NUM_THREADS says more. lm_eval is in a folder apart, with what it needs:
POSTTRAIN_HARNESS names it.
"""

from __future__ import annotations

import copy
import logging
import os
import statistics
import sys
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch

from eval.asking.loglik import continuation_logprobs, split_continuation
from eval.asking.run import evaluate
from eval.task import Example, Metric, Split, Task
from pipeline.models.language import wrap
from reward.verdict import Verdict
from tests.benchmarks.clocks import Clocks
from tests.benchmarks.result import Result

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from eval.model import LanguageModel

_GOAL = 2.0
_SIZES: dict[str, dict[str, int]] = {
    "1M": {"hidden_size": 128, "num_hidden_layers": 4, "num_attention_heads": 4},
    "5M": {"hidden_size": 256, "num_hidden_layers": 6, "num_attention_heads": 8},
}
_VOCABULARY, _PAD, _EOS = 1280, 0, 1
_ITEMS, _NEW_TOKENS, _OPTIONS = 200, 64, 4
_SHORTEST, _LONGEST, _LONGEST_OPTION = 8, 64, 8
_BATCH_SIZE = 64  # the default of a recipe
_THEIR_BATCH_SIZES = (32, 64, 200)
_TURNS = 3
_TOLERANCE = 1e-4
_ENDING = 0.034  # of tokens: half of the answers end within 20
_CONSTANT = 10.0  # a dimension of all that the head reads


class _Side(NamedTuple):
    """Both ways to the same answers, and the items a second that they are measured in."""

    ours: Callable[[], Any]
    theirs: Callable[[int], Any]
    num_items: int


def evaluation_against_lm_eval() -> Result:
    """Compare both, of each size: written answers of full length and not, and choices."""
    sys.path.append(os.environ.get("POSTTRAIN_HARNESS", ""))
    if find_spec("lm_eval") is None:
        raise RuntimeError("POSTTRAIN_HARNESS names no folder with lm_eval: pip install lm-eval")
    logging.disable(logging.WARNING)
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    details: dict[str, Any] = {}
    is_valid = True
    for size, fields in _SIZES.items():
        for name, metric, ends in (
            ("answers", "verified_accuracy", False),
            ("answers_that_end", "verified_accuracy", True),
            ("choices", "choice_accuracy", False),
        ):
            found, is_same = _compared(_model(fields, ends=ends), metric)
            details[f"{name}_{size}"] = found
            is_valid &= is_same
    ratio = min(each["ratio"] for each in details.values())
    details["threads"] = torch.get_num_threads()
    return Result("evaluation_against_lm_eval", ratio, _GOAL, details, is_valid=is_valid)


def _compared(model: LanguageModel, metric: Metric) -> tuple[dict[str, Any], bool]:
    side, difference = (_choices if metric == "choice_accuracy" else _answers)(model)
    best = min(_THEIR_BATCH_SIZES, key=lambda size: _cpu_s(lambda: side.theirs(size)))
    side.ours()
    pairs = [(_cpu_s(lambda: side.theirs(best)), _cpu_s(side.ours)) for _ in range(_TURNS)]
    lower, ratio, upper = statistics.quantiles([theirs / ours for theirs, ours in pairs], n=4)
    fewest = [min(seconds) for seconds in zip(*pairs, strict=True)]
    return {
        "ratio": round(ratio, 3),
        "quartiles": [round(lower, 3), round(upper, 3)],
        "items_a_second": [round(side.num_items / seconds, 1) for seconds in fewest],
        "their_batch_size": best,
        "difference": float(f"{difference:.1e}"),
    }, difference <= _TOLERANCE


def _answers(model: LanguageModel) -> tuple[_Side, float]:
    """Return both sides, and the share of answers in which they differ."""
    task = _Words("answers", "verified_accuracy")
    documents = [item.document for item in task.test_items(_ITEMS)]
    requests = [
        _instance("generate_until", (text, {"until": ["\n"], "max_gen_toks": _NEW_TOKENS}))
        for text in documents
    ]

    def ours() -> list[str]:
        return [result.response for result in _asked(model, task)]

    def theirs(batch_size: int) -> list[str]:
        return _backend(model, batch_size).generate_until(requests, disable_tqdm=True)

    pairs = zip(ours(), theirs(_BATCH_SIZE), strict=True)
    differing = sum(our.split() != their.split() for our, their in pairs)
    return _Side(ours, theirs, _ITEMS), differing / _ITEMS


def _choices(model: LanguageModel) -> tuple[_Side, float]:
    """Return both sides, and the largest difference of a sum of log-probabilities."""
    task = _Words("choices", "choice_accuracy")
    asked = [
        (item.document, option)
        for item in task.test_items(_ITEMS)
        for option in (item.continuation, *item.distractors)
    ]
    requests = [_instance("loglikelihood", each) for each in asked]

    def theirs(batch_size: int) -> list[float]:
        found = _backend(model, batch_size).loglikelihood(requests, disable_tqdm=True)
        return [logprob for logprob, _ in found]

    pairs = [split_continuation(model, *each) for each in asked]
    own = continuation_logprobs(model, pairs, batch_size=_BATCH_SIZE)
    apart = max(abs(a - b) for a, b in zip(own, theirs(_BATCH_SIZE), strict=True))
    return _Side(lambda: _asked(model, task), theirs, _ITEMS), apart


def _asked(model: LanguageModel, task: Task) -> list[Any]:
    return evaluate(
        model,
        [task],
        limit=_ITEMS,
        styles=["zero-shot"],
        shots=[0],
        batch_size=_BATCH_SIZE,
        seed=0,
    )


def _backend(model: LanguageModel, batch_size: int) -> Any:
    from lm_eval.models.huggingface import HFLM  # pyright: ignore[reportMissingImports]

    return HFLM(
        pretrained=model.module,
        tokenizer=copy.deepcopy(model.tokenizer),
        backend="causal",
        batch_size=batch_size,
        max_length=model.max_length,
    )


def _instance(kind: str, arguments: tuple[Any, ...]) -> Any:
    from lm_eval.api.instance import Instance  # pyright: ignore[reportMissingImports]

    return Instance(request_type=kind, doc={}, arguments=arguments, idx=0)


class _Words(Task):
    """Random words: a document, what should follow, and what should not."""

    version = 1
    kind = "skill"
    summary = "random words"
    max_new_tokens = _NEW_TOKENS

    def __init__(self, name: str, metric: Metric) -> None:
        self.name = name
        self.metrics = (metric,)

    def examples(self, split: Split) -> Iterator[Example]:
        random = np.random.default_rng(0)

        def words(longest: int, shortest: int = 1) -> str:
            count = int(random.integers(shortest, longest + 1))
            return " ".join(f"w{word}" for word in random.integers(2, _VOCABULARY, size=count))

        for number in range(_ITEMS):
            document = words(_LONGEST, _SHORTEST)
            options = [f" {words(_LONGEST_OPTION)}" for _ in range(_OPTIONS)]
            yield Example(
                id=str(number),
                prompt=document,
                response=options[0],
                reference=options[0],
                document=document,
                continuation=options[0],
                distractors=tuple(options[1:]),
            )

    def documents(self, seed: int) -> Iterator[str]:
        return iter(())

    def verify(self, response: str, reference: str) -> Verdict:
        return Verdict(float(response.split() == reference.split()), response, "")


def _model(fields: dict[str, int], *, ends: bool) -> LanguageModel:
    """Return a random model that never ends a text, or one that does, whatever it has read.

    The end's logit is a constant that the largest other logit is rarely below.
    """
    from transformers import Qwen3Config, Qwen3ForCausalLM

    torch.manual_seed(0)
    width = fields["hidden_size"]
    config = Qwen3Config(
        vocab_size=_VOCABULARY,
        intermediate_size=width * 8 // 3 // 8 * 8,
        num_key_value_heads=fields["num_attention_heads"],
        head_dim=width // fields["num_attention_heads"],
        max_position_embeddings=256,
        tie_word_embeddings=False,
        pad_token_id=_PAD,
        eos_token_id=_EOS,
        bos_token_id=None,
        **fields,
    )
    module: Any = Qwen3ForCausalLM(config).eval()
    head = module.lm_head.weight
    with torch.no_grad():
        head.mul_(10)  # no ties
        module.model.embed_tokens.weight.mul_(50)  # what was read last matters most
        module.model.embed_tokens.weight[:, 0] = _CONSTANT
        for layer in module.model.layers:
            layer.self_attn.o_proj.weight[0] = 0
            layer.mlp.down_proj.weight[0] = 0
        head[[_PAD, _EOS]] = 0
        head[:, 0] = 0
        ids = torch.randint(2, _VOCABULARY, (64, 32))
        hidden = module.model(ids).last_hidden_state
        largest = (hidden @ head.T).amax(-1).flatten()
        level = float(largest.quantile(_ENDING)) if ends else 0.0
        head[_EOS, 0] = level / float(hidden[..., 0].mean())
    return wrap(module, _tokenizer(), name="random", form="document")


def _tokenizer() -> Any:
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import WhitespaceSplit
    from transformers import PreTrainedTokenizerFast

    words = {"<pad>": _PAD, "<end>": _EOS}
    words |= {f"w{number}": number for number in range(2, _VOCABULARY)}
    whole: Any = Tokenizer(WordLevel(words, unk_token="w2"))
    whole.pre_tokenizer = WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=whole,
        pad_token="<pad>",
        eos_token="<end>",
        padding_side="left",
    )


def _cpu_s(do: Callable[[], object]) -> float:
    began = Clocks.now()
    do()
    return Clocks.now().since(began).cpu_s

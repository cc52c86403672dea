"""Stage `sft`: supervised fine-tuning on demonstrations, through TRL's SFTTrainer.

The loss is on the response alone: the rows are tokenized here by segments, so that a user's text
can never become a control token and the mask is known to be right; TRL gets token ids and labels.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from pipeline.recipe.config import ModelRef, TrainingOnData
from pipeline.recipe.training_args import FINE_TUNING_DEFAULTS, WITHOUT_ROUTER_LOSS
from pipeline.stage import Stage, StageContext, StageResult

if TYPE_CHECKING:
    from collections.abc import Sequence

    from datasets import Dataset

    from pipeline.data.encode import EncodedExample

TRAINING_DEFAULTS: dict[str, Any] = {
    **FINE_TUNING_DEFAULTS,
    **WITHOUT_ROUTER_LOSS,
    "learning_rate": 2e-5,
}
_CARRIED = ("_metrics", "_total_train_tokens")


class SftConfig(TrainingOnData):
    """model: to fine-tune.

    data: chats, prompts with completions, or with `form: text` texts, of which every token is
    trained on: a little of what the model was pre-trained on keeps it from being forgotten.
    """

    stage: Literal["sft"]
    model: ModelRef


def run(config: SftConfig, context: StageContext) -> StageResult:
    """Encode the rows with their masks, train, save."""
    from trl.trainer.sft_config import SFTConfig

    from pipeline.data.blocks import held_out_records, row_sources
    from pipeline.data.encode import encode_records
    from pipeline.data.mixing import row_mixture
    from pipeline.data.padding import padding_share
    from pipeline.data.records import ChatRow
    from pipeline.data.template import template_sha256
    from pipeline.models.load import load_tokenizer
    from pipeline.models.save import save_trained
    from pipeline.models.training import (
        check_length,
        load_for_training,
        peft_config,
        within_positions,
    )
    from pipeline.training.arguments import arguments, refusals
    from pipeline.training.bins import Bins, why_padded
    from pipeline.training.drive import train
    from pipeline.training.supervised import EncodedSftTrainer

    source = context.model(config.model)
    tokenizer, module = load_tokenizer(source), load_for_training(source, config)
    sources = row_sources(config.data, context.places, STAGE.data_forms)
    rows, shares = row_mixture(sources, seed=context.seed)
    args = arguments(
        SFTConfig,
        config,
        context,
        defaults=within_positions(STAGE.defaults(config), module),
        forced={"dataset_kwargs": {"skip_prepare_dataset": True}},
    )
    check_length(args.max_length, module, source, context)
    examples, report = encode_records(rows, tokenizer, max_length=args.max_length)
    held_out: list[EncodedExample] = []
    left_out: dict[str, float] = {}
    if args.eval_strategy != "no":
        found = held_out_records(config, context.places, STAGE.data_forms)
        held_out, unseen = encode_records(
            found, tokenizer, max_length=args.max_length, name="held-out rows"
        )
        left_out = unseen.held_out_metrics()
    with refusals(context):
        trainer = EncodedSftTrainer(
            model=module,
            args=args,
            train_dataset=_dataset(examples),
            eval_dataset=_dataset(held_out) if held_out else None,
            processing_class=tokenizer,
            peft_config=peft_config(config, "CAUSAL_LM"),
        )
    pad = tokenizer.pad_token_id
    lengths = [len(each.input_ids) for each in [*examples, *held_out]]
    padded = why_padded(module, longest=max(lengths))
    if padded is None:
        trainer.data_collator = Bins(pad if isinstance(pad, int) else 0)
    names = [example.where for example in examples]
    metrics = train(trainer, config, context, rows=names, carried=_CARRIED)
    properties: dict[str, Any] = {}
    if context.is_main:
        saved, properties = save_trained(trainer.model, tokenizer, source, context.out)
        metrics |= saved
    is_chat = tokenizer.chat_template is not None and any(isinstance(r, ChatRow) for r in rows)
    return StageResult(
        metrics={
            **metrics,
            **report.metrics(),
            **left_out,
            "packing": f"padded, {padded}" if padded else "in bins",
            **({"padding_share": round(padding_share(lengths), 4)} if padded else {}),
            "sources": [f"{share.label}: {share.num_rows} rows" for share in shares],
        },
        properties={
            "form": "chat" if is_chat else "document",
            "template_sha256": template_sha256(tokenizer) if is_chat else None,
            **properties,
        },
    )


def _dataset(examples: Sequence[EncodedExample]) -> Dataset:
    from datasets import Dataset

    from pipeline.data.encode import IGNORED

    return Dataset.from_dict(
        {
            "input_ids": [example.input_ids for example in examples],
            # Nothing predicts a row's first token, which upstream would count for some models.
            "labels": [[IGNORED, *example.labels[1:]] for example in examples],
            "row": list(range(len(examples))),
        }
    )


STAGE = Stage(
    config=SftConfig,
    run=run,
    produces="policy",
    version=4,
    trainer="SFTConfig",
    training_defaults=TRAINING_DEFAULTS,
    adapter_defaults={"learning_rate": 2e-4},  # ten times: Biderman et al. 2024
    data_forms=("chat", "prompt_completion"),
    is_distributed=True,
)

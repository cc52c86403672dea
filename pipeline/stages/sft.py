"""Stage `sft`: supervised fine-tuning on demonstrations, through TRL's SFTTrainer.

The loss is on the response alone: the rows are tokenized here by segments, so that a user's text
can never become a control token and the mask is known to be right; TRL gets token ids and labels.
"""

from __future__ import annotations

from typing import Any, Literal

from pipeline.errors import PosttrainError
from pipeline.recipe.config import ModelRef, TrainingStage
from pipeline.stage import Stage, StageContext, StageResult

TRAINING_DEFAULTS: dict[str, Any] = {
    "learning_rate": 2e-5,
    "lr_scheduler_type": "cosine",
    "warmup_steps": 0.05,
    "num_train_epochs": 1,
    "max_length": 1024,
    "logging_steps": 10,
    "gradient_checkpointing": False,
}
_CARRIED = ("_metrics", "_total_train_tokens")


class SftConfig(TrainingStage):
    """model: to fine-tune, all its weights. data: chats, or prompts with completions."""

    stage: Literal["sft"]
    model: ModelRef


def run(config: SftConfig, context: StageContext) -> StageResult:
    """Encode the rows with their masks, train, save."""
    from datasets import Dataset
    from trl.trainer.sft_config import SFTConfig
    from trl.trainer.sft_trainer import SFTTrainer

    from pipeline import training
    from pipeline.data.blocks import row_sources
    from pipeline.data.encode import encode_records
    from pipeline.data.formats import ChatRow
    from pipeline.data.mixing import row_mixture
    from pipeline.data.template import template_sha256
    from pipeline.models import load_policy, load_tokenizer, save_policy

    source = context.model(config.model)
    tokenizer, module = load_tokenizer(source), load_policy(source)
    sources = row_sources(config.data, context.places, STAGE.data_forms)
    rows, shares = row_mixture(sources, seed=context.seed)
    is_chat = any(isinstance(row, ChatRow) for row in rows)
    args = training.arguments(
        SFTConfig,
        config,
        context,
        defaults=TRAINING_DEFAULTS,
        forced={"dataset_kwargs": {"skip_prepare_dataset": True}},
    )
    limit = getattr(module.config, "max_position_embeddings", None)
    if isinstance(limit, int) and args.max_length > limit:
        raise PosttrainError(
            f"{context.name}: training_args",
            f"max_length {args.max_length} is beyond the {limit} positions of {source.name}",
            f"set it to {limit} or less",
        )
    examples, report = encode_records(rows, tokenizer, max_length=args.max_length)
    columns = {
        "input_ids": [example.input_ids for example in examples],
        "labels": [example.labels for example in examples],
    }
    trainer = SFTTrainer(
        model=module,
        args=args,
        train_dataset=Dataset.from_dict(columns),
        processing_class=tokenizer,
    )
    metrics = training.train(
        trainer,
        context,
        keeps_own_cadence="save_steps" in config.training_args,
        carried=_CARRIED,
    )
    if context.is_main:
        metrics |= save_policy(module, tokenizer, context.out)
    return StageResult(
        metrics={
            **metrics,
            **report.metrics(),
            "sources": [f"{share.label}: {share.num_rows} rows" for share in shares],
        },
        properties={
            "form": "chat" if is_chat else "document",
            "template_sha256": template_sha256(tokenizer) if is_chat else None,
        },
    )


STAGE = Stage(
    config=SftConfig,
    run=run,
    produces="policy",
    version=1,
    trainer="SFTConfig",
    training_defaults=TRAINING_DEFAULTS,
    data_forms=("chat", "prompt_completion"),
    is_distributed=True,
)

"""Stage `best_of_n`: the best response to each prompt by its score, as rows for `sft`.

Rejection sampling, as RAFT and Llama 2 learn from it (Dong et al. 2023; Touvron et al. 2023, 3.2):
`generate` samples, `label` scores, this chooses, `sft` learns. Not best-of-n while a model answers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import model_validator

from pipeline.config.blocks import DataBlocks
from pipeline.config.stage import Stage, StageContext, StageResult
from pipeline.config.stage_config import Makes, StageConfig
from pipeline.data.making import choices
from pipeline.data.making.rows import COMPLETION, SAMPLED, tasks_behind, write_rows
from pipeline.errors import PosttrainError

if TYPE_CHECKING:
    from pipeline.data.reading.responses import ResponseRow


class BestOfNConfig(StageConfig):
    """data: responses with a `score`, as `label` writes them. by: the column that has the score.

    at_least: prompts none of whose responses has this score are left out, and counted.
    cut: whether a response that was cut off may be the best (keep), or is passed over (drop).
    """

    stage: Literal["best_of_n"]
    data: DataBlocks
    by: str = "score"
    at_least: float | None = None
    cut: Literal["keep", "drop"] = "drop"

    @model_validator(mode="after")
    def _is_a_score(self) -> BestOfNConfig:
        if self.by in COMPLETION:
            raise ValueError(f"`by` {self.by} is a text; name the column that has the score")
        return self

    @property
    def makes(self) -> Makes:
        """What rows it makes."""
        return Makes("prompt_completion", (*COMPLETION, *SAMPLED, "score", "out_of"))

    @property
    def written(self) -> tuple[str, ...]:
        """The columns that it writes, and that a file must not have."""
        return ("out_of",)

    def score_of(self, row: ResponseRow) -> float | None:
        """Return a row's score; None where it has none. PosttrainError for what is no number."""
        value = row.fields.get(self.by)
        if value is None and self.by in row.fields:
            return None
        if isinstance(value, bool) or not isinstance(value, int | float):
            message = f"the column `{self.by}` is missing, or is no number"
            raise PosttrainError(row.where, message, "`label` gives responses a `score`")
        return float(value)


def run(config: BestOfNConfig, context: StageContext) -> StageResult:
    """Choose, and write one row a prompt."""
    from pipeline.data.reading.responses import read_responses

    rows = read_responses(config.data, context.places, written=config.written)
    scored = [choices.Scored(row, config.score_of(row)) for row in rows]
    made = choices.choose_best(scored, at_least=config.at_least, keeps_cut=config.cut == "keep")
    if not made.rows:
        reasons = ", ".join(f"{n} {why}" for why, n in made.left_out.items() if n)
        message = f"there is no best response to any of {made.num_prompts} prompts ({reasons})"
        raise PosttrainError(context.name, message, "lower `at_least`, or sample more")
    best = [row["score"] for row in made.rows]
    all_scores = [one.score for one in scored if one.score is not None]
    write_rows(context.out, made.rows, form="prompt_completion", scores=best)
    return StageResult(
        metrics={
            "chosen": len(made.rows),
            "chosen_from": len(scored),
            "chosen_prompts": made.num_prompts,
            **choices.left_out_metrics(made),
            "score_mean": sum(best) / len(best),
            "score_mean_of_all": sum(all_scores) / len(all_scores),
        },
        properties={
            "data_form": "prompt_completion",
            "tasks": tasks_behind(config.data, context),
        },
    )


STAGE = Stage(
    config=BestOfNConfig,
    run=run,
    produces="data",
    version=5,
    data_forms=("prompt_completion",),
    is_seeded=False,
    uses_device=False,
)

"""How far models have moved from those they were trained from, in a table beside the scores.

The mean over sampled responses of their `log_ratio`: the plain estimator of
`eval.asking.divergence`, in nats per response. Responses that were not sampled at temperature 1
carry no ratio: for a greedy response it would not estimate a divergence.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from eval.comparison.paired_results import RowItems
from eval.results import Style
from eval.statistics.estimate import Estimate
from eval.statistics.intervals import mean, mean_interval


@dataclass(frozen=True)
class DivergenceRow:
    """KL(model || the one it was trained from) on a task's prompts, in nats per response.

    n: responses. low, high: its 95% interval over items. tokens: mean length of these responses.
    """

    task: str
    model: str
    trained_from: str
    style: Style
    shots: int
    n: int
    kl: float
    low: float | None
    high: float | None
    tokens: float

    @property
    def estimate(self) -> Estimate:
        """The divergence with its interval."""
        return Estimate(self.kl, self.low, self.high)


def tabulate_divergence(
    rows: Sequence[RowItems], trained_from: Mapping[str, str | None]
) -> list[DivergenceRow]:
    """Return the divergence of every row whose answers carry ratios.

    trained_from: what each model was trained from, by its name, where that is known.
    """
    found: list[DivergenceRow] = []
    for row in rows:
        source = trained_from.get(row.model)
        measured = [
            [
                (answer.log_ratio, answer.num_tokens)
                for answer in answers
                if answer.log_ratio is not None
            ]
            for answers in row.answers.values()
        ]
        measured = [samples for samples in measured if samples]
        if not row.is_asked or source is None or not measured:
            continue
        by_item = [mean([ratio for ratio, _ in samples]) for samples in measured]
        interval = mean_interval(by_item)
        found.append(
            DivergenceRow(
                task=row.task,
                model=row.model,
                trained_from=source,
                style=row.style,
                shots=row.shots,
                n=sum(len(samples) for samples in measured),
                kl=mean(by_item),
                low=interval.low if interval else None,
                high=interval.high if interval else None,
                tokens=mean([num for samples in measured for _, num in samples]),
            )
        )
    return found

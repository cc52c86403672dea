"""docs/models.md: the matrix as a table, written by `make matrix` and read back by the tests."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from tests.matrix.bench import COLUMNS
from tests.matrix.cells import STAGES, Outcome

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.matrix.bench import Column
    from tests.matrix.cells import Verdict

PAGE = Path(__file__).resolve().parents[2] / "docs" / "models.md"
_VERDICTS: dict[str, Verdict] = {"yes": "right", "no": "refused", "WRONG": "wrong"}
Matrix = dict[str, dict[tuple["Column", str], Outcome]]

_HEAD = """\
# Which models

Contents: [all weights](#all-weights) · [LoRA on an adapter](#lora-on-a-model-with-an-adapter)

```sh
make matrix    # writes this page
```

Each row is a tiny random model of an architecture, each cell a stage that a recipe runs on it, in
fp32 on a CPU. A test compares the page with what the code does. **yes**: the stage computes what
plain transformers and PEFT compute row by row, without padding, packing or cache:

| stage | what is compared |
|---|---|
| `pretrain`, `sft` | the first loss: mean negative log-probability of the tokens it is on |
| `reward_model` | the first loss, -log sigmoid of differences of scores; the saved model's scores |
| `dpo` | log-probabilities of both responses, log-ratios 0, first loss log 2 |
| `kto` | log-probabilities of both kinds of response, log-ratios and KL term 0, first loss 1/2 |
| `ppo` | log-probabilities of the sampler, of the policy and of the reference |
| `evaluate` | bits per byte, log-likelihoods, greedy answers, also after a shared beginning |
| `merge` | logits of the merged model |
| `export` | logits of the exported folder, merged and as an adapter |

and, for the six that train, that the saved model is the trained one. Rows of different lengths
share each batch; differences are at most 2e-4. **no**: refused before anything is trained, with the
reason below.

With LoRA, every stage continues from an adapter that was trained before. The first adapter of a
mixture of experts trains, is evaluated, merged and exported; PEFT puts it on the experts' weights
too (`target_parameters`), and such an adapter cannot be combined with a second.

A mixture of experts trains on the loss above alone. The router's load-balancing loss depends on
which rows share a forward pass; `training_args: {router_aux_loss_coef: 0.001}` adds it to `sft`,
`dpo` and `kto`.
"""


def text_of(matrix: Mapping[str, Mapping[tuple[Column, str], Outcome]]) -> str:
    """Return the page."""
    notes: list[str] = []
    parts = [_HEAD]
    for column in COLUMNS:
        lines = [
            "| architecture | " + " | ".join(f"`{stage}`" for stage in STAGES) + " |",
            "|---" * (len(STAGES) + 1) + "|",
        ]
        for name, cells in matrix.items():
            shown = [_cell(cells[column, stage], notes) for stage in STAGES]
            lines.append(f"| {name} | {' | '.join(shown)} |")
        begins = "All weights" if column == "full" else "LoRA on a model with an adapter"
        parts.append(f"## {begins}\n\n" + "\n".join(lines) + "\n")
    reasons = [f"{number}. {note}" for number, note in enumerate(notes, 1)]
    counted = [each.verdict for cells in matrix.values() for each in cells.values()]
    count = ", ".join(
        f"{counted.count(verdict)} {verdict}" for verdict in ("right", "refused", "wrong")
    )
    parts.append(f"{len(matrix)} architectures, {len(counted)} cells: {count}.\n")
    return "\n".join([*parts, "Reasons:\n", *reasons]) + "\n"


def read(text: str) -> Matrix:
    """Return the matrix that a page was written of."""
    notes = dict(re.findall(r"^(\d+)\. (.+)$", text, flags=re.MULTILINE))
    matrix: Matrix = {}
    for column, table in zip(COLUMNS, text.split("\n## ")[1:], strict=True):
        for row in re.findall(r"^\| (.+) \|$", table, flags=re.MULTILINE)[1:]:
            name, *cells = row.split(" | ")
            for stage, cell in zip(STAGES, cells, strict=True):
                said, _, note = cell.rstrip(")").partition(" (")
                found = Outcome(_VERDICTS[said], notes.get(note, ""))
                matrix.setdefault(name, {})[column, stage] = found
    return matrix


def word(outcome: Outcome) -> str:
    """Return how the page calls an outcome."""
    return next(said for said, verdict in _VERDICTS.items() if verdict == outcome.verdict)


def _cell(outcome: Outcome, notes: list[str]) -> str:
    if not outcome.said:
        return word(outcome)
    if outcome.said not in notes:
        notes.append(outcome.said)
    return f"{word(outcome)} ({notes.index(outcome.said) + 1})"

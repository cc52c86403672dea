"""A batch of lines as one line: the same loss and gradients, without padding."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import torch

from pipeline.data.encoding.examples import IGNORED
from pipeline.training.bins import OWNER, Bins
from pipeline.training.one_line import OneLine, in_one_line, network_of_lines
from tests.small_architectures import small

PAD = 0
LENGTHS = (9, 3, 4, 7, 2, 9, 5)


def lines() -> dict[str, Any]:
    generator = torch.Generator().manual_seed(1)
    rows = []
    for length in LENGTHS:
        ids = torch.randint(1, 50, (length,), generator=generator).tolist()
        rows.append({"input_ids": ids, "labels": [IGNORED] * (length // 2) + ids[length // 2 :]})
    batch = Bins(PAD)(rows)
    batch.pop(OWNER)
    return batch


class Upstream:
    def compute_loss(self, model: Any, inputs: Any) -> Any:
        self.seen = inputs
        return model(**inputs).loss


class Trainer(OneLine, Upstream):
    pass


def gradients(model: Any, trainer: Trainer) -> tuple[float, torch.Tensor]:
    model.zero_grad()
    loss = trainer.compute_loss(model, lines())
    loss.backward()
    return float(loss.detach()), torch.cat([p.grad.flatten() for p in model.parameters()])


def arguments(**given: Any) -> Any:
    return SimpleNamespace(**{"torch_compile": False, "gradient_checkpointing": False, **given})


def test_loss_and_gradients_are_those_of_the_lines() -> None:
    model = small("qwen3").train()
    trainer = Trainer()
    loss, expected = gradients(model, trainer)
    trainer.network = network_of_lines(model, arguments())
    in_line, found = gradients(model, trainer)
    assert trainer.seen["input_ids"].shape == (1, sum(LENGTHS))
    assert abs(in_line - loss) < 1e-6
    assert float((found - expected).abs().max() / expected.abs().max()) < 2e-6


def test_rows_of_which_nothing_is_predicted_are_left_out() -> None:
    batch = {name: lines()[name] for name in ("input_ids", "position_ids", "labels")}
    batch["labels"][0] = IGNORED
    line, lengths = in_one_line(batch)
    assert sum(lengths) == line["input_ids"].shape[1] < sum(LENGTHS)
    assert (line["position_ids"][0] == 0).sum() == len(lengths)
    batch["labels"][:] = IGNORED
    assert in_one_line(batch)[0]["input_ids"].numel() > 0


def test_lines_are_left_as_they_are_in_evaluation_and_where_attention_cannot_take_them_apart() -> (
    None
):
    model = small("qwen3")
    trainer = Trainer()
    trainer.network = network_of_lines(model, arguments())
    trainer.compute_loss(model.eval(), lines())
    assert trainer.seen["input_ids"].shape == lines()["input_ids"].shape
    assert network_of_lines(small("bloom"), arguments()) is None
    assert network_of_lines(model, arguments(gradient_checkpointing=True)) is None
    assert network_of_lines(model, arguments(torch_compile=True)) is None
    of_fsdp = {"activation_checkpointing": True}
    assert network_of_lines(model, arguments(fsdp_config=of_fsdp)) is None

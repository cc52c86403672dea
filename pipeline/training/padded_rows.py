"""TRL trainers of right-padded rows, which are run end to end on a CPU (models/padded_rows.py)."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

from pipeline.models.end_to_end import lays_end_to_end
from pipeline.models.padded_rows import laying_end_to_end, without_peft
from pipeline.training.one_line import runs_layers_once

if TYPE_CHECKING:
    from collections.abc import Generator


class PaddedRows:
    """Mixed into a TRL trainer of padded rows, whose model scores what it trains on alone.

    Networks are tried on a few rows before the trainer may split their weights among processes; a
    reference that upstream makes later keeps its padding.
    """

    _is_laying = False  # within a loss, a reference may be asked as well

    def __init__(self: Any, *, model: Any, ref_model: Any = None, args: Any, **named: Any) -> None:
        given = [without_peft(each) for each in (model, ref_model) if each is not None]
        is_tried = runs_layers_once(args)
        self._laid = [each for each in given if is_tried and lays_end_to_end(each.base_model)]
        references = {} if ref_model is None else {"ref_model": ref_model}
        super().__init__(model=model, args=args, **references, **named)  # pyright: ignore[reportCallIssue]

    def compute_loss(self: Any, *args: Any, **named: Any) -> Any:
        """Return upstream's loss, its rows run end to end."""
        with self._laying_end_to_end():
            return super().compute_loss(*args, **named)  # pyright: ignore[reportAttributeAccessIssue]

    def compute_ref_log_probs(self: Any, *args: Any, **named: Any) -> Any:
        """Return the reference's log-probabilities, its rows run end to end."""
        with self._laying_end_to_end():
            return super().compute_ref_log_probs(*args, **named)  # pyright: ignore[reportAttributeAccessIssue]

    @contextmanager
    def _laying_end_to_end(self: Any) -> Generator[None]:
        if self._is_laying:
            yield
            return
        self._is_laying = True
        try:
            with ExitStack() as stack:
                for model in self._laid:
                    stack.enter_context(laying_end_to_end(model))
                yield
        finally:
            self._is_laying = False

"""A stage's rows as token ids in files: encoded once, and kept for whoever reads the same rows.

That is another run, a resumed one, another rank, or the stage after its check. Where it is not
known what decides the rows they are encoded anew, into files that go with the process. Imports no
torch.
"""

from __future__ import annotations

from array import array
from dataclasses import asdict, dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import numpy as np

from pipeline.data.encoding.made_with import made_with, tokenizer_identity
from pipeline.data.encoding.parts import Totals, encode_into
from pipeline.data.encoding.row_table import EncodedRow, RowTable, RowWriter
from pipeline.data.mixing import RowShare
from pipeline.store.kept import find, find_or_make

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from transformers import PreTrainedTokenizerBase

    from pipeline.config.field_types import DataForm
    from pipeline.config.keeping import Keeping
    from pipeline.data.encoding.lengths import Limit, RowCounts
    from pipeline.data.encoding.parts import Encoder
    from pipeline.data.reading.records import Record
    from pipeline.data.screening.screen import Screen
    from pipeline.data.training_sources import Mixture

Row = TypeVar("Row", bound=EncodedRow)
_TRAINED, _HELD_OUT = "trained", "held_out"


@dataclass(frozen=True)
class RowKind(Generic[Row]):
    """What a stage makes of its rows.

    name: of the kind. noun: what a row is called. encoder: of a tokenizer and a limit.
    must_hold_out: none held out is an error, where they are wanted, even if the data keeps none.
    settings: what decides the encoder's work beside these.
    """

    name: str
    noun: str
    encoder: Callable[[PreTrainedTokenizerBase, Limit], Encoder[Row]]
    must_hold_out: bool = False
    settings: Mapping[str, Any] = field(default_factory=dict[str, Any])


@dataclass(frozen=True)
class Reading:
    """The rows that a stage reads. held_out: returns those that it never trains on."""

    mixture: Mixture
    held_out: Callable[[], Sequence[Record]]
    forms: Sequence[DataForm]
    keeping: Keeping | None

    def needs_template(self) -> bool:
        """Whether it takes a chat template to write any of the rows to train on."""
        if self.keeping is None:
            return self.mixture.will_need_template()
        payload = self._payload(self.keeping, "template")
        kept = find_or_make(
            self.keeping.folder,
            payload,
            lambda _: {"needs_template": self.mixture.will_need_template()},
            reader=self.keeping.reader,
        )
        return bool(kept.notes["needs_template"])

    def key(
        self, kind: RowKind[Any], tokenizer: PreTrainedTokenizerBase, limit: Limit
    ) -> dict[str, Any] | None:
        """Return what decides the encoded rows; None where not all of it is known."""
        identity = tokenizer_identity(tokenizer)
        if self.keeping is None or identity is None:
            return None
        within = [limit.max_length, limit.too_long, limit.side]
        return {
            **self._payload(self.keeping, kind.name),
            **kind.settings,
            "tokenizer": identity,
            "limit": within,
        }

    def _payload(self, keeping: Keeping, what: str) -> dict[str, Any]:
        return {
            "what": what,
            "reads": keeping.reads,
            "forms": list(self.forms),
            "made_with": made_with(),
        }

    def screen(self, screen: Screen, *, on_row: Callable[[], None]) -> None:
        """Have a screen know what it found in the rows, or read them all for it."""
        keeping = self.keeping
        if keeping is None or keeping.screened is None:
            return
        payload = {"what": "screen", "screened": keeping.screened, "made_with": made_with()}
        if (kept := find(keeping.folder, payload, reader=keeping.reader)) is not None:
            screen.recall(kept.notes)
            return
        for _ in self.mixture:  # what is left of it
            on_row()
        find_or_make(keeping.folder, payload, lambda _: screen.found(), reader=keeping.reader)


@dataclass(frozen=True)
class KeptRows(Generic[Row]):
    """Rows as token ids, and what became of those that were read.

    shares: how many of each source. has_conversations: whether any of the rows was one.
    """

    trained: RowTable[Row]
    held_out: RowTable[Row]
    report: RowCounts
    held_out_report: RowCounts
    shares: Sequence[RowShare]
    has_conversations: bool


def encode_kept(
    kind: RowKind[Row],
    reading: Reading,
    tokenizer: PreTrainedTokenizerBase,
    limit: Limit,
    *,
    may_be_none: bool,
    processes: int = 1,
    tell: Callable[[str, int, int], None],
    on_wait: Callable[[], None] = lambda: None,
) -> KeptRows[Row]:
    """Return a stage's rows encoded, from files that are there or are made now.

    may_be_none: whether no row need be held out. processes: how many may share the work. tell:
    called again and again with what is encoded, how many rows are, and of about how many; it may
    raise. Raises PosttrainError for rows that cannot be encoded, and where none is left.
    """
    making = _Making(kind, kind.encoder(tokenizer, limit), reading, may_be_none, processes, tell)
    key = reading.key(kind, tokenizer, limit)
    if key is None or reading.keeping is None:
        with TemporaryDirectory() as folder:  # what is mapped stays when its name goes
            return making.open(Path(folder), making.make(Path(folder)))
    keeping = reading.keeping
    kept = find_or_make(keeping.folder, key, making.make, on_wait=on_wait, reader=keeping.reader)
    return making.open(kept.path, kept.notes)


@dataclass(frozen=True)
class _Making(Generic[Row]):
    kind: RowKind[Row]
    encoder: Encoder[Row]
    reading: Reading
    may_be_none: bool
    processes: int
    tell: Callable[[str, int, int], None]

    def make(self, folder: Path) -> dict[str, Any]:
        """Write the files; return what is noted beside them."""
        mixture = self.reading.mixture
        trained = self._write(folder, _TRAINED, mixture)
        self._report(_TRAINED, trained)  # before more is encoded
        unseen = self.reading.held_out()
        held_out = self._write(folder, _HELD_OUT, unseen)
        return {
            _TRAINED: trained.notes(),
            _HELD_OUT: held_out.notes(),
            "num_unseen": len(unseen),
            "shares": [asdict(share) for share in mixture.shares],
            "has_conversations": mixture.has_conversations,
        }

    def open(self, folder: Path, notes: Mapping[str, Any]) -> KeptRows[Row]:
        """Map the files."""
        may_be_none = self.may_be_none
        if not self.kind.must_hold_out and not notes["num_unseen"]:
            may_be_none = True
        totals = {
            part: Totals.of(notes[part], array("i", np.load(folder / f"{part}.npy").tolist()))
            for part in (_TRAINED, _HELD_OUT)
        }
        return KeptRows(
            RowTable.open(self.encoder.kind, folder / f"{_TRAINED}.arrow"),
            RowTable.open(self.encoder.kind, folder / f"{_HELD_OUT}.arrow"),
            self._report(_TRAINED, totals[_TRAINED]),
            self._report(_HELD_OUT, totals[_HELD_OUT], may_be_none=may_be_none),
            [RowShare(**{**share, "not_used": (*share["not_used"],)}) for share in notes["shares"]],
            notes["has_conversations"],
        )

    def _write(self, folder: Path, part: str, records: Iterable[Record]) -> Totals:
        is_trained = part == _TRAINED
        label = "rows encoded" if is_trained else "held-out rows encoded"
        likely = self.reading.mixture.likely_rows() if is_trained else 0
        with RowWriter(self.encoder.kind, folder / f"{part}.arrow") as writer:
            totals = encode_into(
                writer,
                records,
                self.encoder,
                processes=self.processes,
                on_part=lambda done: self.tell(label, done, max(done, likely)),
            )
        np.save(folder / f"{part}.npy", np.asarray(totals.lengths, dtype=np.int32))
        return totals

    def _report(self, part: str, totals: Totals, *, may_be_none: bool = False) -> RowCounts:
        noun = self.kind.noun
        name = noun if part == _TRAINED else f"held-out {noun}"
        return self.encoder.report(totals, name=name, may_be_none=may_be_none)

"""What `make prove` rests on, taken out one at a time: a claim must fail then."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.mutations.grading import GRADING
from tests.mutations.store import KEPT

if TYPE_CHECKING:
    from tests.mutations.mutation import Mutation

CLAIMS: list[Mutation] = [*KEPT, *GRADING]

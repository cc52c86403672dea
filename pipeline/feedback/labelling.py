"""What `posttrain label` works on: whose responses, which pairs of them, and where labels go."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipeline.errors import PosttrainError
from pipeline.feedback.decisions import decisions_path, read_decisions
from pipeline.feedback.pairs import draw_pairs
from pipeline.feedback.showings import order_showings
from pipeline.feedback.sources import find_source, prompt_columns, read_responses_of
from pipeline.feedback.summary import summary_lines
from pipeline.feedback.votes import read_votes

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from pipeline.feedback.showings import Showing
    from pipeline.feedback.sources import Source
    from pipeline.store.store import Store


@dataclass(frozen=True)
class Work:
    """sources: whose responses are compared. preferences: the file that is written."""

    sources: Sequence[Source]
    preferences: Path

    @property
    def name(self) -> str:
        """The sources, for people."""
        return ", ".join(f"`{source.name}`" for source in self.sources)

    def draw(self, *, at_most: int, repeat: float, seed: int) -> tuple[list[Showing], list[str]]:
        """Return the pairs as they are to be shown, and what to say of them.

        Raises PosttrainError for rows that are no responses, and where there is no pair.
        """
        responses = (one for source in self.sources for one in read_responses_of(source))
        drawn = draw_pairs(responses, at_most=at_most, seed=seed)
        if not drawn.pairs:
            hint = "sample several of each (`num_samples`), or name a second stage beside it"
            raise PosttrainError(self.name, "no prompt has two different responses", hint)
        for pair in drawn.pairs:  # what could not be written is said before anybody decides
            for response in (pair.a, pair.b):
                prompt_columns(response)
        showings = order_showings(drawn.pairs, repeat=repeat, seed=seed)
        number, twice = len(drawn.pairs), len(showings) - len(drawn.pairs)
        lines = [f"{self.name}: {number:,} of {drawn.possible:,} pairs, {twice} of them twice"]
        if drawn.alone:
            lines.append(f"prompts without two different responses: {drawn.alone:,}")
        keys = {pair.key for pair in drawn.pairs}
        earlier = read_decisions(decisions_path(self.preferences))
        if earlier:
            others = sum(one.pair not in keys for one in earlier)
            of_others = f", {others} of them on pairs that are not among these" if others else ""
            lines.append(f"decisions that are there already: {len(earlier)}{of_others}")
        return showings, lines

    def summary(self) -> list[str]:
        """Return what the decisions so far come to, and where they are."""
        decisions = read_decisions(decisions_path(self.preferences))
        judged = {name: path for source in self.sources for name, path in source.judged.items()}
        judges = [read_votes(path, name) for name, path in judged.items()] if decisions else []
        lines = summary_lines(decisions, judges)
        if decisions:
            lines.append(f"preferences, for reward_model, dpo and kto: {self.preferences}")
            lines.append(f"every decision: {decisions_path(self.preferences)}")
        return lines


def find_work(
    texts: Sequence[str], out: Path | None, store: Store, roots: Mapping[str, Path]
) -> Work:
    """Return what the command line names; PosttrainError where it is not there.

    out: the file of preferences; None for one beside the recipe or the rows.
    """
    sources = [find_source(text, store, roots) for text in texts]
    names = [source.name for source in sources]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        message = "two of these are called so"
        raise PosttrainError(f"`{twice}`", message, "name each stage once, files by other names")
    stem = "-".join([sources[0].stem, *names[1:]])
    return Work(sources, out or sources[0].folder / f"{stem}-preferences.jsonl")

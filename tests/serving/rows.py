"""Rows for a judge of politeness: how it is asked and what it says, and what it is to judge."""

import json
import random
from pathlib import Path

from pipeline.config.judge import JudgeBlock
from reward.judges.answers import form_in_words
from reward.judges.exchange import Request
from reward.judges.rubric import score_request

SCALE = (1, 3)
_THINGS = ("tea", "the door", "a pen", "the book", "some bread", "the light", "a chair", "the cup")
_REPLIES = {
    3: ("Yes please, {thing}.", "Please have {thing}.", "Here is {thing}, please."),
    2: ("Here is {thing}.", "Take {thing}.", "You have {thing}."),
    1: ("Get {thing} now.", "No. Not {thing}.", "Now leave {thing}."),
}
_RUBRIC = JudgeBlock.model_fields["rubric"].default


def write_rows(folder: Path, *, rows: int = 600, prompts: int = 20) -> None:
    """Write `judged.jsonl`, to learn from, and `answers.jsonl`, three to each of the prompts.

    `read.jsonl` has the questions as documents.
    """
    chance = random.Random(7)
    judged = [_judged(chance, number) for number in range(rows)]
    with (folder / "judged.jsonl").open("w") as stream:
        stream.writelines(json.dumps(row) + "\n" for row in judged)
    with (folder / "read.jsonl").open("w") as stream:
        stream.writelines(
            json.dumps({"text": row["messages"][0]["content"]}) + "\n" for row in judged
        )
    with (folder / "answers.jsonl").open("w") as stream:
        for number in range(prompts):
            prompt = _prompt(chance, number)
            for score in _REPLIES:
                row = {"prompt": prompt, "completion": _reply(chance, score)}
                stream.write(json.dumps(row) + "\n")


def _judged(chance: random.Random, number: int) -> dict[str, list[dict[str, str]]]:
    """Return a chat in which a judge is asked for a score, and gives it."""
    score = chance.choice(list(_REPLIES))
    prompt = _prompt(chance, number)
    request = score_request(prompt, _reply(chance, score), _RUBRIC, scale=SCALE)
    return _chat(request, {"answer": score})


def _chat(request: Request, answer: dict[str, object]) -> dict[str, list[dict[str, str]]]:
    asked = request.messages[-1][1] + form_in_words(request, has_schema=True)
    turns = [("user", asked), ("assistant", json.dumps(answer))]
    return {"messages": [{"role": role, "content": text} for role, text in turns]}


def _prompt(chance: random.Random, number: int) -> str:
    return f"May I have {chance.choice(_THINGS)}? ({number})"


def _reply(chance: random.Random, score: int) -> str:
    return chance.choice(_REPLIES[score]).format(thing=chance.choice(_THINGS))

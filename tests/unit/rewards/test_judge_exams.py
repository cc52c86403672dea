"""A judge is examined as it will be asked, before it counts."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace

import pytest

from pipeline.config.judge import JudgeBlock
from pipeline.config.licence import LicenceBlock
from pipeline.config.references import Places
from pipeline.errors import InfrastructureError, PosttrainError
from pipeline.rewards.exams import examine_comparing
from pipeline.rewards.judge_exam import examine_judge
from reward.judges.exchange import NoReply, Reply
from reward.judges.judge import Judge


@dataclass
class Answering:
    """Answers requests by what it finds in them."""

    answer: object
    asked: list = field(default_factory=list)
    identity: dict = field(default_factory=dict)

    async def reply(self, requests):
        self.asked += requests
        return [self.answer(request) for request in requests]


def kinder(request):
    """Prefers, or scores, what says `yes`; in a comparison it reads both texts."""
    text = request.messages[-1][1]
    if request.options == ("A", "B"):
        first = text.index("<A>")
        return Reply("A" if "yes" in text[first : text.index("<B>")] else "B")
    return Reply("9" if "yes" in text.partition("<response>")[2] else "2")


def first_place(request):
    return Reply("A" if request.options == ("A", "B") else "5")


def silent(_):
    return NoReply("timeout", "no answer in 60 s")


@pytest.fixture
def context(tmp_path: Path):
    rows = [
        {
            "prompt": [{"role": "user", "content": f"Q {n}"}],
            "chosen": f"yes {n}",
            "rejected": f"no. {n}",
        }
        for n in range(60)
    ]
    (tmp_path / "pairs.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return SimpleNamespace(
        name="label",
        places=Places(tmp_path),
        checkpoints=tmp_path / "checkpoints",
        is_main=True,
        should_stop=lambda: False,
        stop_if_asked=lambda: None,
    )


PAIRS = LicenceBlock(file="pairs.jsonl", pairs=40)


def exam(answer, context, *, compares=True, asked=PAIRS, tasks=()):
    judge = Judge(Answering(answer), "Be kind.")
    return examine_judge("wide", judge, asked, tasks, context, compares=compares), judge


@pytest.mark.parametrize(("compares", "requests"), [(True, 80), (False, 80)])
def test_a_judge_that_agrees_with_people_is_admitted(context, compares, requests):
    found, judge = exam(kinder, context, compares=compares)
    assert (found.state, found.pairs_of) == ("admitted", "pairs.jsonl")
    assert found.licence.figures.accuracy.value == 1
    assert (found.licence.figures.first_place is not None) == compares
    assert found.spent["asked"] == len(judge.respondent.asked) == requests
    assert json.loads(json.dumps(found.metrics()))["accuracy"] == 1


@pytest.mark.parametrize(("compares", "why"), [(True, "40 got another answer"), (False, "chance")])
def test_a_judge_of_places_or_of_one_score_is_refused_with_its_figures(context, compares, why):
    with pytest.raises(PosttrainError) as refused:
        exam(first_place, context, compares=compares)
    line = str(refused.value)
    assert line.startswith("label: the judge `wide` has no licence: it is right on 0.50")
    assert why in line
    assert "`licence: off`" in line


def test_a_judge_that_answers_nothing_is_no_bad_judge(context):
    with pytest.raises(InfrastructureError, match="answered none of 40 questions"):
        exam(silent, context)


def test_without_pairs_a_judge_is_refused_and_told_what_to_write(context):
    with pytest.raises(PosttrainError, match=r"no pairs that people labelled; write `licence:"):
        exam(kinder, context, asked=None, tasks=["gsm8k"])


def test_the_tasks_own_pairs_are_the_exam_by_default(context):
    def wise(request):  # of `facts`, every wrong answer of which says less or decides nothing
        return kinder(request)

    with pytest.raises(PosttrainError, match=r"validation pairs of facts"):
        exam(wise, context, asked=None, tasks=["facts"])


def test_off_asks_nothing(context):
    found, judge = exam(kinder, context, asked="off")
    assert (found.state, judge.respondent.asked) == ("off", [])


def test_a_stage_that_goes_on_takes_no_second_exam(context):
    block = JudgeBlock(model="./wide", licence=PAIRS)
    judge = Judge(Answering(kinder), "Be kind.")
    first = examine_comparing(block, judge, (), context)
    asked = len(judge.respondent.asked)
    assert examine_comparing(block, judge, (), context) == first
    assert len(judge.respondent.asked) == asked > 0
    assert first["licences"]["wide"]["state"] == "admitted"

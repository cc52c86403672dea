"""The report's section about learning from rewards: figures, words, samples in time, gaps."""

import json
import math
import random
import re
from io import StringIO

import pytest
from rich.console import Console

from eval.statistics.estimate import Estimate
from pipeline.commands.status import StageState
from pipeline.errors import CorruptArtifactError
from pipeline.report.html import run_of_folder, write
from pipeline.report.html.rollouts.best_of_n import at_equal_kl, read_best_of_n
from pipeline.report.html.rollouts.samples import read_samples
from pipeline.report.html.rollouts.verdict import verdicts
from pipeline.report.rollouts import SCORE, read_rollouts, summarize_rollouts
from pipeline.report.terminal.run import print_states
from pipeline.rl.signs import STOPPED, Shown
from tests.hostile_texts import HOSTILE, hostile
from tests.ppo_runs import write_ppo_run
from tests.report_page import Page


def page_of(tmp_path, **options):
    folder = write_ppo_run(tmp_path / "runs", **options)
    return write(run_of_folder(folder), tmp_path / "report.html").read_text(encoding="utf-8")


def stage_folder(tmp_path, **options):
    write_ppo_run(tmp_path / "runs", **options)
    return next((tmp_path / "runs" / "store").glob("ppo-*"))


def figures_of(html):
    """Return what each figure of the section says to a screen reader, by its title."""
    section = html[html.index('<section id="rollouts">') : html.index('<section id="provenance">')]
    titles = re.findall(r"<figcaption><strong>(.*?)</strong>", section)
    spoken = [e["aria-label"] for _, e in Page(section).elements if e.get("class") == "figure"]
    return dict(zip(titles, spoken, strict=True))


@pytest.fixture(scope="module")
def html(tmp_path_factory):
    return page_of(tmp_path_factory.mktemp("ppo"))


def test_every_curve_of_a_rollout_is_drawn_and_says_what_to_look_for(html):
    figures = figures_of(html)
    first = ["Gold score against KL", "Reward against KL", "Reward", "Gold score"]
    first += ["KL to the reference", "Entropy", "Response length", "Ended by itself"]
    first += ["Explained variance", "Clipped", "preference", "verified", "facts", "stories"]
    assert list(figures)[: len(first)] == first
    assert {"Policy loss", "Value loss", "Gradient norm"} <= figures.keys()
    assert "rising while the gold score falls: over-optimisation" in html
    assert figures["Entropy"].startswith("Entropy over rollouts 0 to 119: training from 1.89")
    assert html.count("<circle") < 100, "dots are not elements of the page"


def test_scores_stand_against_kl_with_best_of_n_and_the_final_policy_beside(html):
    gold = figures_of(html)["Gold score against KL"]
    assert "rollouts 0 to 6: KL 0.1" in gold
    assert f"best of 16: KL {math.log(16) - 15 / 16:.2f}, 0.55 [0.50, 0.60]" in gold
    assert "final policy, held out: KL 12.00, 0.45 [0.40, 0.50]" in gold
    assert "best of 16" in figures_of(html)["Reward against KL"]


def test_the_page_says_what_came_out(html):
    said = Page(html).text.replace("\N{MINUS SIGN}", "-")
    assert "Over-optimised: since rollouts 30 to 59 the reward's own score rose from 1.31" in said
    assert "while the gold score fell from 0.57 to 0.49" in said
    assert "Below best-of-16, in spite of a larger KL: on 256 held-out prompts" in said
    assert "(difference -0.10 [-0.17, -0.03])" in said


def test_a_page_of_thousands_of_rollouts_stays_small(tmp_path):
    html = page_of(tmp_path, rollouts=4_000)
    assert len(html.encode()) < 400_000
    assert "means of 250" in html


@pytest.mark.parametrize(
    ("left_out", "is_there", "is_not_there"),
    [
        (("best_of_n.json", "samples.jsonl"), "Over-optimised", "Samples over time"),
        (("gold/", "best_of_n.json"), "No gold score was measured", "est-of-n"),
        (("objective/kl", "objective/scores"), "Below best-of-16", "Over-optimised"),
        (("metrics.jsonl", "samples.jsonl", "best_of_n.json"), "480 steps", "against KL"),
    ],
)
def test_what_is_missing_is_left_out(tmp_path, left_out, is_there, is_not_there):
    said = Page(page_of(tmp_path, leave_out=left_out)).text
    assert is_there in said
    assert is_not_there not in said


def test_one_rollout_is_a_point_and_no_trend(tmp_path):
    html = page_of(tmp_path, rollouts=1)
    assert "Too few rollouts (1 of at least 16) to tell a trend." in Page(html).text
    assert "1 rollout64 responses" in Page(html).text
    assert list(figures_of(html)) == ["Gold score against KL", "Reward against KL"]


def test_what_is_no_number_is_passed_over(tmp_path):
    folder = stage_folder(tmp_path, rollouts=40)
    path = folder / "metrics.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    for place, line in enumerate(lines[:20]):
        line["gold/mean"] = (math.nan, math.inf, None, "high")[place % 4]
    lines[30]["objective/kl"] = -math.inf
    path.write_text("".join(json.dumps(line) + "\n" for line in [*lines, {"train_runtime": 3.0}]))
    rollouts = read_rollouts(folder)
    assert len(rollouts) == 40
    assert [rollout["rollout"] for rollout in rollouts] == list(range(40))
    assert sum("gold/mean" in rollout for rollout in rollouts) == 20
    best = json.loads((folder / "best_of_n.json").read_text())
    best["rows"][2] |= {"gold": math.nan}
    best["rows"][3] = {"n": 8, "gold": 0.5}
    best["policy"] |= {"gold_low": None}
    (folder / "best_of_n.json").write_text(json.dumps(best))
    read = read_best_of_n(folder)
    assert [row.gold is None for row in read.rows] == [False, False, True, False, False]
    assert read.rows[3].kl == pytest.approx(math.log(8) - 7 / 8)
    assert at_equal_kl(read, lambda row: row.gold).difference is None


@pytest.mark.parametrize("name", ["metrics.jsonl", "best_of_n.json", "samples.jsonl"])
def test_a_torn_file_is_named(tmp_path, name):
    folder = write_ppo_run(tmp_path / "runs", rollouts=4)
    path = next((tmp_path / "runs" / "store").glob("ppo-*")) / name
    path.write_text("{".ljust(path.stat().st_size))
    with pytest.raises(CorruptArtifactError, match=f"{re.escape(name)} has other contents"):
        write(run_of_folder(folder), tmp_path / "report.html")


def test_what_others_wrote_never_becomes_markup_on_its_page(tmp_path, html):
    spoken = {"aria-label": "", "placeholder": ""}

    def shape(page):
        return [
            (tag, attributes | {key: "" for key in spoken if key in attributes})
            for tag, attributes in page.elements
        ]

    attacked = Page(page_of(tmp_path, told=hostile))
    assert shape(attacked) == shape(Page(html))
    text = "".join(attacked.texts) + "".join(e.get("aria-label", "") for _, e in attacked.elements)
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b\u202e\u2028\ud800-\udfff]", text)
    assert sum(payload in text for payload in HOSTILE if payload.isprintable()) > 10


def rollouts_of(score_of, gold_of, *, number=40, noise=0.02):
    drawn = random.Random("rollouts")
    return [
        {
            **{"rollout": float(place), "objective/kl": place / 10},
            SCORE: score_of(place / number) + drawn.gauss(0, noise),
            "gold/mean": gold_of(place / number) + drawn.gauss(0, noise),
        }
        for place in range(number)
    ]


@pytest.mark.parametrize(
    ("score_of", "gold_of", "lead"),
    [
        (lambda t: t, lambda t: t, "No over-optimisation seen:"),
        (lambda t: t, lambda t: t * (1 - t), "Over-optimised:"),
        (lambda t: t, lambda t: -t, "Over-optimised:"),
        (lambda t: -t, lambda t: -t, "The gold score fell:"),
        (lambda t: t, lambda _: 0.5, "Paid, not better:"),
        (lambda _: 0.5, lambda _: 0.5, "Nothing learnt that can be told:"),
        (lambda _: 0.5, lambda t: t, "No over-optimisation seen:"),
    ],
)
@pytest.mark.parametrize("noise", [0.0, 0.02])
def test_the_verdict_follows_both_curves(score_of, gold_of, lead, noise):
    (said,) = verdicts(rollouts_of(score_of, gold_of, noise=noise), SCORE, None)
    assert said.lead == lead


def test_noise_alone_is_seldom_called_over_optimisation():
    drawn = random.Random("noise")
    leads = []
    for _ in range(100):
        rollouts = [
            {"rollout": float(n), SCORE: drawn.gauss(n, 1), "gold/mean": drawn.gauss(0, 1)}
            for n in range(40)
        ]
        leads.append(verdicts(rollouts, SCORE, None)[0].lead)
    assert leads.count("Over-optimised:") <= 6


def best_of_n(tmp_path, policy):
    rows = [
        {"n": n, "gold": 0.2 + 0.2 * math.sqrt(math.log(n) - (n - 1) / n)} for n in (1, 2, 4, 8, 16)
    ]
    rows = [row | {"gold_low": row["gold"] - 0.03, "gold_high": row["gold"] + 0.04} for row in rows]
    (tmp_path / "best_of_n.json").write_text(json.dumps({"rows": rows[::-1], "policy": policy}))
    return at_equal_kl(read_best_of_n(tmp_path), lambda row: row.gold)


def test_the_policy_is_compared_with_best_of_n_at_its_own_kl(tmp_path):
    policy = {"kl": 1.0, "gold": 0.5, "gold_low": 0.47, "gold_high": 0.54}
    found = best_of_n(tmp_path, policy)
    assert (found.is_beyond, found.other_kl) == (False, 1.0)
    assert found.other.value == pytest.approx(0.4)
    assert found.difference.value == pytest.approx(0.1)
    assert found.difference.low == pytest.approx(0.1 - math.hypot(0.03, 0.04))
    assert found.difference.high == pytest.approx(0.1 + math.hypot(0.04, 0.03))
    assert found.side == 1
    assert best_of_n(tmp_path, policy | {"gold": 0.42}).side == 0
    below = {"gold": 0.2, "gold_low": 0.17, "gold_high": 0.24}
    assert best_of_n(tmp_path, policy | below).side == -1


def test_a_policy_beyond_the_last_best_of_n_is_compared_with_that(tmp_path):
    last = math.log(16) - 15 / 16
    found = best_of_n(tmp_path, {"kl": 5.0, "gold": 0.5})
    assert (found.is_beyond, found.last_n, found.other_kl) == (True, 16, pytest.approx(last))
    assert found.difference is None
    before = best_of_n(tmp_path, {"kl": -0.02, "gold": 0.2})
    assert (before.is_beyond, before.other) == (False, Estimate(0.2, 0.17, pytest.approx(0.24)))


def test_samples_show_the_whole_training_and_what_fools_the_reward(tmp_path):
    lines = [
        {
            **{"rollout": rollout, "prompt": f"p{rollout}-{place}", "completion": " x\n"},
            **{"score": float(place > 1), "gold": float(place in (1, 3)), "source": "facts"},
            **{"scores": {"a": 1.0, "b": math.nan}, "ended": place != 0, "kl": 1.0},
        }
        for rollout in range(100)
        for place in range(4)
    ]
    (tmp_path / "samples.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    found = read_samples(tmp_path)
    assert len(found) == 80
    numbers = [each.completions[0].rollout for each in found]
    assert numbers[:20] == sorted(set(numbers))
    assert (numbers[0], numbers[19]) == (0, 99)
    kinds = {each.prompt[-1]: each.kinds for each in found}
    assert kinds == {"0": ("cut",), "1": (), "2": ("fooling",), "3": ()}
    assert found[0].completions[0].terms == (("a", 1.0),)


def test_answers_to_one_prompt_stand_side_by_side_in_time(tmp_path):
    folder = stage_folder(tmp_path, rollouts=9)
    found = read_samples(folder)
    assert len(found) == 15
    assert all([c.rollout for c in each.completions] == list(range(9)) for each in found)


def test_samples_without_any_figures_are_shown_as_they_are(tmp_path):
    (tmp_path / "samples.jsonl").write_text('{"completion": "words"}\n')
    (found,) = read_samples(tmp_path)
    (shown,) = found.completions
    assert (shown.text, shown.score, shown.gold, shown.is_ended) == ("words", None, None, True)
    assert found.kinds == ()


def test_long_samples_are_cut_and_take_no_more_room_than_there_is(tmp_path):
    found = read_samples(stage_folder(tmp_path, told=lambda text: text + " <so on>" * 4_000))
    texts = [each.prompt for each in found] + [c.text for each in found for c in each.completions]
    assert len(found) > 10
    assert all(text.endswith("more characters)") for text in texts)
    assert sum(map(len, texts)) < 500_000


def test_a_terminal_is_told_in_a_line(tmp_path):
    folder = stage_folder(tmp_path)
    said = summarize_rollouts(read_rollouts(folder))
    assert re.fullmatch(
        r"score -?\d\.\d\d -> \d\.\d\d, KL 1\d\.\d nats, gold 0\.\d\d -> 0\.\d\d", said
    )
    assert summarize_rollouts([{"rollout": 0.0, "objective/kl": 0.0}]) == "KL 0.0 nats"
    raw = {"rollout": 0.0, SCORE: 0.0, "objective/scores_raw": 3.0}
    assert summarize_rollouts([raw]) == "score 3.00 -> 3.00"
    out = folder / "out"
    out.mkdir()
    out.joinpath("metrics.jsonl").write_text('{"objective/kl": 2.0}\n{"objective/kl": 3')
    states = [
        StageState("rl", "ppo", "started", 10, folder),
        StageState("later", "ppo", "not run", 0, None),
        StageState("tuned", "sft", "done", 10, folder),
    ]
    console = Console(file=StringIO(), width=200)
    print_states(states, console, results={}, links=tmp_path)
    shown = console.file.getvalue()
    assert "rl: KL 2.0 nats" in shown
    assert "later:" not in shown
    assert "tuned: KL" not in shown


def test_a_sign_of_reward_hacking_is_said_and_marked_where_it_begins(tmp_path, html):
    numbers = {"rollout": 70, "began": 66, "before": 31.0, "now": 49.5, "change": 1.6, "bound": 1.5}
    shown = Shown("length", **numbers, stops=True)
    of_judge = Shown(
        "over_optimised", **numbers | {"rollout": 50, "bound": 0.0}, stops=False, of="j"
    )
    more = {number: {"guards/repetition": number / 200} for number in range(71)}
    more[50] |= of_judge.metrics()
    more[70] |= shown.metrics() | {STOPPED: 1.0}
    page = page_of(tmp_path, more=more, rollouts=71)
    figures = figures_of(page)
    assert figures["Response length"].endswith("; a sign begins at rollout 66")
    assert figures["Reward"].endswith("; a sign begins at rollout 66")
    assert "a sign begins" not in figures["Repeats"]
    said = Page(page).text
    assert "A sign of reward hacking: response length 31 -> 49.5 tokens, from rollout 66 on" in said
    assert "told in rollout 70, where training stopped." in said
    assert "the held-out `j` 31 -> 49.5 while the reward rose" in said
    assert "A dashed upright line" in said
    assert "a sign" not in Page(html).text
    line = summarize_rollouts(read_rollouts(next((tmp_path / "runs" / "store").glob("ppo-*"))))
    signs = "signs of reward hacking: over_optimised (rollout 50) and length (rollout 70)"
    assert line.endswith(f"{signs}, stopped by it")


def test_rewards_that_gave_none_are_said_with_their_share():
    rollouts = [
        {"objective/scores": 1.0, "rewards/judge/n": 95.0, "rewards/judge/none": 5.0},
        {"objective/scores": 1.0, "rewards/judge/n": 100.0, "rewards/judge/none": 0.0},
    ]
    assert summarize_rollouts(rollouts).endswith("no reward from judge for 2.5% of responses")
    said = verdicts(rollouts, SCORE, None)[-1]
    assert (said.lead, said.mood) == ("None instead of a reward:", "loss")
    assert said.rest.startswith("judge for 2.5% of the responses")
    assert "no reward" not in summarize_rollouts(rollouts[1:])
    assert not any("None" in each.lead for each in verdicts(rollouts[1:], SCORE, None))

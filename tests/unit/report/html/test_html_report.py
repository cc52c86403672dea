"""The report as a page: what it says of a run; that it is one file, whole, small, repeatable."""

import base64
import hashlib
import json
import re
from dataclasses import asdict, replace

import pytest

from eval.comparison.comparison import compare_results
from eval.comparison.gate import Bounds, judge
from eval.comparison.pool import pool
from pipeline.errors import CorruptArtifactError, PosttrainError
from pipeline.measuring.model_scores import read_items
from pipeline.report.html import run_of_folder, write
from pipeline.report.html.page import gather, render
from pipeline.report.html.summary import summarise
from pipeline.store.manifest import write_sealed
from tests.hostile_texts import HOSTILE, hostile
from tests.report_page import Page
from tests.report_runs import publish_again, write_run


def page_of(tmp_path, **options):
    folder = write_run(tmp_path / "runs", **options)
    return write(run_of_folder(folder), tmp_path / "report.html").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def html(tmp_path_factory):
    return page_of(tmp_path_factory.mktemp("plain"))


def test_the_same_run_gives_the_same_bytes(tmp_path, html):
    assert page_of(tmp_path) == html


def test_the_summary_names_verdict_gains_losses_and_the_price(html):
    said = Page(html).text.replace("\N{MINUS SIGN}", "-")
    assert "DO NOT SHIP tuned and ppo are compared with base on arithmetic and recall" in said
    assert "tuned 0.74 ▲+0.09 [+0.03, +0.15] 1 gain, no loss, 2 too close to call" in said
    assert (
        "The gate rests on recall: difference at least -0.1, by the ends of 95% intervals" in said
    )
    assert (
        "does not ship: fails recall -0.320 losses that no condition looks at: stories.txt" in said
    )
    assert "+0.43 [+0.34, +0.52] ppo arithmetic: answers that verify: 0.33 → 0.76" in said
    assert "-0.27 [-0.36, -0.18] ppo recall: answers that verify: 0.97 → 0.70" in said
    assert "1.360 (+0.150 [+0.130, +0.170])" in said
    assert "1.9 [1.2, 2.6] from tuned (arithmetic)" in said


def test_the_verdict_of_a_later_comparison_stands_before_the_first(tmp_path):
    run = run_of_folder(write_run(tmp_path / "runs"))
    contents = gather(run)
    (gated,) = contents.summaries
    free = summarise(replace(gated.comparison, stage="free", gate=None), run)
    page = render(replace(contents, summaries=(free, gated), drawings=contents.drawings * 2))
    said = Page(page).text.replace("\N{MINUS SIGN}", "-")
    result = "DO NOT SHIP says compare: tuned ships; ppo does not ship: fails recall -0.320."
    assert said.count(result) == 1
    assert said.index(result) < said.index("are compared with")
    assert '<a href="#compared-compare">' in page
    assert '<details class="fold second" id="compared-compare">' in page
    assert "says compare" not in Page(render(contents)).text  # it is the first: its heading says it


def test_every_known_kind_of_curve_is_drawn(html):
    titles = re.findall(r"<figcaption><strong>(.*?)</strong>", html)
    for title in ("Loss", "Token accuracy", "Reward", "KL to the reference", "Clipped"):
        assert title in titles
    assert titles.count("Calibration") == 2
    assert titles.count("recall") == 2  # a sweep over demonstrations, a curve over distances


def test_each_figure_says_in_words_what_it_shows_and_has_its_numbers_beside_it(html):
    figures = [each for _, each in Page(html).elements if each.get("class") == "figure"]
    assert len(figures) > 15
    assert all(each["role"] == "img" and len(each["aria-label"]) > 30 for each in figures)
    assert html.count('<details class="numbers"><summary>numbers') == len(figures)


def test_ids_are_there_once_and_what_refers_to_them_finds_them(html):
    elements = Page(html).elements
    ids = [each["id"] for _, each in elements if "id" in each]
    assert len(set(ids)) == len(ids)
    named = set(re.findall(r"url\(#([^)]+)\)", html))
    named |= {each["href"][1:] for _, each in elements if each.get("href", "").startswith("#")}
    assert named <= set(ids)


def test_nothing_is_loaded_and_the_policy_allows_the_pages_own_style_and_script_alone(html):
    page = Page(html)
    policy = next(e["content"] for tag, e in page.elements if "http-equiv" in e)
    for tag in ("style", "script"):
        (inside,) = re.findall(f"<{tag}>(.*?)</{tag}>", html, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(inside.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy
    assert policy.startswith("default-src 'none';")
    for tag, attributes in page.elements:
        assert tag not in ("img", "iframe", "object", "embed", "base", "form")
        assert not any(name.startswith("on") or name in ("src", "style") for name in attributes)
        assert attributes.get("href", "#").startswith(("#", "data:image/svg+xml,"))


@pytest.mark.parametrize("shift", [0, 25])
def test_what_others_wrote_never_becomes_markup(tmp_path, html, shift):
    page, plain = Page(page_of(tmp_path, told=lambda text: hostile(text, shift=shift))), Page(html)
    spoken = {"aria-label": ""}

    def shape(page):
        return [
            (tag, attributes | (spoken if "aria-label" in attributes else {}))
            for tag, attributes in page.elements
        ]

    assert shape(page) == shape(plain)
    text = "".join(page.texts)
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b\u202e\u2028\ud800-\udfff]", text)
    assert "1337" not in text
    shown = [payload for payload in HOSTILE if payload.isprintable() and payload in text]
    assert len(shown) > 35
    assert "\\x1b[31mred\\x1b[0m" in text
    assert "\\u202eflow txet" in text


def test_long_answers_leave_the_page_below_three_megabytes(tmp_path):
    html = page_of(
        tmp_path, told=lambda text: text + (" and <so on>" * 3_000 if "step" in text else "")
    )
    assert "more characters" in html
    assert len(html.encode()) < 3_000_000


def test_a_torn_comparison_is_named(tmp_path):
    folder = write_run(tmp_path / "runs")
    path = next((tmp_path / "runs" / "store").glob("compare-*")) / "comparison.json"
    content = json.loads(path.read_text())
    path.write_text("{".ljust(path.stat().st_size))
    with pytest.raises(CorruptArtifactError, match=r"comparison\.json has other contents"):
        write(run_of_folder(folder), tmp_path / "report.html")
    publish_again(path.parent)
    with pytest.raises(CorruptArtifactError, match=r"comparison\.json: is no result of a stage"):
        write(run_of_folder(folder), tmp_path / "report.html")
    del content["rows"][0]["score"]  # as another version has it
    path.write_text(json.dumps(content))
    publish_again(path.parent)
    said = r"comparison\.json: is not readable \(`rows\.0` has no `score`\)"
    with pytest.raises(CorruptArtifactError, match=said):
        write(run_of_folder(folder), tmp_path / "report.html")
    assert not (tmp_path / "report.html").exists()


def test_a_folder_without_a_run_is_refused(tmp_path):
    with pytest.raises(PosttrainError, match=r"no run\.json in this folder"):
        run_of_folder(tmp_path)


def test_a_stage_whose_result_is_gone_is_told_as_missing(tmp_path):
    folder = write_run(tmp_path / "runs")
    (next((tmp_path / "runs" / "store").glob("sft-*")) / "artifact.json").unlink()
    html = write(run_of_folder(folder), tmp_path / "report.html").read_text(encoding="utf-8")
    assert "Not there yet: tuned." in Page(html).text


def test_what_a_comparison_writes_is_what_the_report_reads(tmp_path):
    folder = write_run(tmp_path / "runs")
    written = next((tmp_path / "runs" / "store").glob("compare-*"))
    results = read_items(written)
    chosen = [  # options chosen by their probability, for the calibration
        replace(
            each, metric="choice_accuracy", form="document", confidence=0.3 + int(each.score) / 2
        )
        for each in results["tuned"]
        if each.task == "recall" and each.style == "zero-shot"
    ]
    results = {model: [*found, *chosen] for model, found in results.items()}
    results["ppo"] = [replace(each, log_ratio=1 + each.score) for each in results["ppo"]]
    found = compare_results(results, "base", trained_from={"tuned": "base", "ppo": "tuned"})
    gate = judge(
        found.rows, {"recall": Bounds(delta_low=-0.5), "arithmetic": Bounds(score_low=0.9)}, "base"
    )
    path = written / "comparison.json"
    text = json.dumps(asdict(found) | {"gate": asdict(gate)})
    path.write_text(text)
    publish_again(written)

    said = Page(write(run_of_folder(folder), tmp_path / "report.html").read_text("utf-8")).text
    assert "DO NOT SHIP" in said
    for reason in (c.reason for verdict in gate.verdicts for c in verdict.conditions):
        assert reason in said
    for note in found.notes:
        assert note in said
    kl = found.divergence[0]
    assert f"{kl.kl:.1f} [{kl.low:.1f}, {kl.high:.1f}] from tuned (arithmetic)" in said
    for title in ("Demonstrations in the prompt", "By group of items", "Calibration"):
        assert title in said
    (row,) = (
        row
        for row in found.rows
        if (row.task, row.model, row.style, row.shots) == ("arithmetic", "ppo", "few-shot", 4)
    )
    assert f"{row.score:.2f} [{row.low:.2f}, {row.high:.2f}]" in said
    assert f"+{row.gained} \N{MINUS SIGN}{row.lost}" in said


def test_scores_of_several_seeds_are_their_means_where_the_run_is_one_of_them(tmp_path):
    folder = write_run(tmp_path / "runs")
    written = next((tmp_path / "runs" / "store").glob("compare-*"))
    items = read_items(written)
    never = {model: [replace(each, score=0.0) for each in found] for model, found in items.items()}
    pooled = {
        **{"baseline": "base", "models": list(items), "seeds": [7, 8]},
        "comparisons": [f"store/{written.name}", "store/compare-other"],
        "rows": [asdict(row) for row in pool([items, never], "base")],
    }
    (folder / "seeds").mkdir()
    write_sealed(folder / "seeds" / "compare.json", pooled)
    said = Page(write(run_of_folder(folder), tmp_path / "report.html").read_text("utf-8")).text
    assert "stories.txt, means over the seeds 7 and 8." in said
    assert "all else is of seed 7" in said
    right = [each.score for each in items["ppo"] if each.task == "recall" and each.shots == 4]
    assert f"{sum(right) / len(right) / 2:.2f}" in said
    pooled["comparisons"] = ["store/compare-other"]
    write_sealed(folder / "seeds" / "compare.json", pooled)
    html = write(run_of_folder(folder), tmp_path / "report.html").read_text("utf-8")
    assert "means over the seeds" not in html

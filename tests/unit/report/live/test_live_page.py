"""The page that follows a run: who is let in, and what it is told while stages begin and end."""

import http.client
import json
import threading
from contextlib import contextmanager

import pytest

from pipeline.plan.plan import make
from pipeline.recipe.load import load
from pipeline.report.live.state import Follower
from pipeline.report.live.web import LivePage
from pipeline.run.progress import silent
from pipeline.store.attempt import Recorder, end_attempt
from pipeline.store.store import Store
from pipeline.web.connections import bind_socket, make_server

pytestmark = pytest.mark.enable_socket


@pytest.fixture
def run(tiny_recipe, tmp_path):
    store = Store(tmp_path / "runs")
    return make(load(tiny_recipe), store), store


@contextmanager
def served(plan, store):
    """Yield a page in a thread, its port and what the terminal was told."""
    links: list[str] = []
    bound = bind_socket(0)
    port = bound.getsockname()[1]
    page = LivePage(Follower(plan, store), port=port, say=links.append)
    server = make_server(page.app)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [bound]})
    thread.start()
    try:
        yield page, port, links
    finally:
        server.should_exit = True
        thread.join()


def ask(port, path, *, method="GET", body=None, **headers):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    given = {"Host": f"127.0.0.1:{port}", "Origin": f"http://127.0.0.1:{port}", **headers}
    connection.request(method, path, body, given)
    answer = connection.getresponse()
    return answer.status, answer.read(), dict(answer.getheaders())


def begin(plan, store, name):
    planned = plan.stage(name)
    working = store.working(planned.kind, planned.fingerprint)
    working.start_over()
    Recorder(working, silent)("step", 3, 9, "loss 2.1")
    lines = ({"step": step, "loss": 5 - step} for step in (1, 2, 3))
    (working.out / "metrics.jsonl").write_text("".join(json.dumps(x) + "\n" for x in lines))
    return working


def record_of(planned, **metrics):
    return {
        **{"name": planned.name, "kind": planned.kind, "produces": "policy", "metrics": metrics},
        **{"fingerprint": planned.fingerprint, "identity": planned.identity, "inputs": {}},
        **{"properties": {}, "provenance": {"seconds": 7.0, "exact": True}},
    }


def test_only_who_has_the_link_is_let_in_and_each_link_lets_one_in(run):
    with served(*run) as (page, port, links):
        assert ask(port, "/api/run")[0] == 401
        code = page.door.address.rpartition("#")[2]
        status, body, _ = ask(port, "/api/enter", method="POST", body=code)
        assert status == 200
        token = json.loads(body)["token"]
        assert ask(port, "/api/run", Authorization=f"Bearer {token}")[0] == 200
        assert ask(port, "/api/enter", method="POST", body=code)[0] == 401
        assert len(links) == 1


def test_another_host_or_site_is_turned_away_and_the_page_loads_nothing_from_elsewhere(run):
    with served(*run) as (_, port, _links):
        assert ask(port, "/", Host="evil.example")[0] == 421
        assert (
            ask(port, "/api/enter", method="POST", body="x", Origin="http://evil.example")[0] == 403
        )
        status, body, headers = ask(port, "/")
        assert status == 200
        assert headers["content-security-policy"].startswith("default-src 'none'")
        assert b"http://" not in body.replace(b"http://www.w3.org/2000/svg", b"")


def test_the_state_follows_stages_from_waiting_to_running_failed_and_done(run):
    plan, store = run
    follower = Follower(plan, store)
    states = {each["name"]: each["status"] for each in follower.look()["stages"]}
    assert states == {"tokenizer": "missing", "base": "missing", "sft": "missing"}
    assert follower.look()["state"] == "waiting"

    working = begin(plan, store, "base")
    found = follower.look()
    assert (found["state"], found["shown"]) == ("running", "base")
    (loss,) = found["panels"]
    assert loss["series"][0]["y"] == (4.0, 3.0, 2.0)

    end_attempt(working, "failed", "base: memory ran out")
    base = next(each for each in follower.look()["stages"] if each["name"] == "base")
    assert (base["status"], base["attempt"]["error"]) == ("failed", "base: memory ran out")

    store.publish(working, record=record_of(plan.stage("base"), loss=2.0))
    found = follower.look()
    base = next(each for each in found["stages"] if each["name"] == "base")
    assert (base["status"], base["result"], base["seconds"]) == ("cached", "loss 2.000", 7.0)


def test_a_stage_can_be_chosen_and_what_is_none_is_passed_over(run):
    plan, store = run
    begin(plan, store, "base")
    follower = Follower(plan, store)
    assert follower.look("base")["shown"] == "base"
    assert follower.look("<nothing>")["shown"] == "base"


GRPO = """\
  grpo:
    stage: grpo
    model: $sft
    prompts: {task: arithmetic}
    reward: {verify: all}
    batch_size: 8
"""


def test_an_answer_that_is_a_picture_comes_as_one_and_a_text_as_a_text(tiny_recipe, tmp_path):
    tiny_recipe.write_text(tiny_recipe.read_text() + GRPO)
    store = Store(tmp_path / "runs")
    plan = make(load(tiny_recipe), store)
    working = begin(plan, store, "grpo")
    lines = (
        {"rollout": 0, "prompt": "3", "completion": "no picture", "score": 0.0},
        {"rollout": 1, "prompt": "3", "completion": "ab", "score": 1.0, "picture": [[0, 255]]},
    )
    (working.out / "samples.jsonl").write_text("".join(json.dumps(x) + "\n" for x in lines))
    (sample,) = Follower(plan, store).look("grpo")["samples"]
    text, drawn = sample["answers"]
    assert (text["text"], text["picture"]) == ("no picture", None)
    assert drawn["picture"]["source"].startswith("data:image/png;base64,")
    assert (drawn["picture"]["width_px"], drawn["picture"]["height_px"]) == (64, 32)

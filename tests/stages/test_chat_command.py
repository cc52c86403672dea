"""`posttrain chat` through the real command: from a pipe, on a terminal, and what it refuses."""

import io
import json
import os
import pty
import re
import select
import signal
import sys
import time
from pathlib import Path

import pytest

from pipeline.cli import main
from tests.command import HEAVY, Command, command, is_like, refuse_heavy_imports, the_line
from tests.conftest import TINY
from tests.forked import run_forked, warm
from tests.unit.test_imports import imported_by

ESCAPES = re.compile(r"\x1b(\[[0-9;?]*[A-Za-z]|\][^\x07]*\x07)|[\x01\x02\r]")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which TINY has run."""
    warm()
    folder = tmp_path_factory.mktemp("chat")
    (folder / "tiny.yaml").write_text(TINY)
    ended = run_forked(folder / "tiny.yaml", folder / "runs")
    assert ended.code == 0, ended.output
    return folder


@pytest.fixture
def posttrain(
    made: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Command:
    """The command, where the recipe and its results are."""
    monkeypatch.chdir(made)
    return command(monkeypatch, capsys)


@pytest.fixture
def piped(posttrain: Command, monkeypatch: pytest.MonkeyPatch):
    """Return a function that runs `posttrain chat` with lines on its standard input."""

    def call(lines: str, *arguments: str):
        monkeypatch.setattr(sys, "stdin", io.StringIO(lines))
        few = () if "--max-new-tokens" in arguments else ("--max-new-tokens", "20")
        return posttrain("chat", *few, *arguments)

    return call


_START = """
import sys
from pathlib import Path

from tests.stages.test_chat_command import _run_and_leave

_run_and_leave(Path(sys.argv[1]), tuple(sys.argv[2:]))
"""


class Terminal:
    """A child with a terminal of its own that runs `posttrain chat ARGUMENTS`."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        self.seen = ""
        self.child, self.descriptor = pty.fork()
        if self.child == 0:  # anew: what other tests left in this process can keep it from ending
            os.environ["PYTHONPATH"] = str(Path(__file__).parents[2])
            os.execv(sys.executable, [sys.executable, "-c", _START, str(folder), *arguments])

    def wait_for(self, pattern: str, again: str = "") -> None:
        """Read until what was written since the last wait, without colours, holds a pattern.

        again: as `exit_code` has it.
        """
        deadline_s = time.monotonic() + 60
        spoke_s = time.monotonic()
        while not re.search(pattern, ESCAPES.sub("", self.seen)):
            assert time.monotonic() < deadline_s, self.seen
            if select.select([self.descriptor], [], [], 0.1)[0]:
                self.seen += os.read(self.descriptor, 65536).decode(errors="replace")
                spoke_s = time.monotonic()
            elif again and time.monotonic() > spoke_s + 5:
                os.write(self.descriptor, again.encode())
                spoke_s = time.monotonic()

    def type(self, keys: str) -> None:
        self.seen = ""
        os.write(self.descriptor, keys.encode())

    def exit_code(self, again: str = "") -> int:
        """Read to the end; `again` is typed whenever the child has been silent for 10 s.

        CPython's readline loses a Ctrl-C that comes after it has shown its prompt and before it
        waits for a key: the interrupt is seen at the next key only.
        """
        while True:
            if again and not select.select([self.descriptor], [], [], 10)[0]:
                os.write(self.descriptor, again.encode())
            try:
                os.read(self.descriptor, 65536)
            except OSError:  # the terminal is gone with the child
                break
        os.close(self.descriptor)
        return os.waitstatus_to_exitcode(os.waitpid(self.child, 0)[1])


def _slow_down() -> None:
    """Let each token take as long as a large model's, so that an answer can be interrupted."""
    from torch.nn.modules.module import register_module_forward_pre_hook
    from transformers import LlamaForCausalLM

    def wait(module: object, _inputs: object) -> None:
        time.sleep(0.05 if isinstance(module, LlamaForCausalLM) else 0)

    register_module_forward_pre_hook(wait)


def _run_and_leave(folder: Path, arguments: tuple[str, ...]) -> None:
    """In the child: run on the terminal, leave without the parent's clean-up."""
    code: object = 70
    try:
        os.chdir(folder)
        os.environ.update(TERM="xterm", COLUMNS="100", LINES="30")
        signal.signal(signal.SIGINT, signal.default_int_handler)
        for name, number, mode in (("stdin", 0, "r"), ("stdout", 1, "w"), ("stderr", 2, "w")):
            setattr(sys, name, os.fdopen(number, mode, buffering=1))
            setattr(sys, f"__{name}__", getattr(sys, name))
        sys.argv = ["posttrain", "chat", *arguments]
        _slow_down()
        main()
        code = 0
    except SystemExit as leaving:
        code = leaving.code or 0
    finally:
        sys.stdout.flush()
        os._exit(code if isinstance(code, int) else 1)


def test_a_pipe_is_answered_line_by_line_without_escape_codes(piped) -> None:
    said = piped("What is 3 + 4?\n\n/history\n", "tiny.yaml:sft", "--temperature", "0")
    assert (said.code, said.err) == (0, "")
    answer, *history = said.out.splitlines()
    assert answer.startswith("sft: ")
    assert history == ["you: What is 3 + 4?", answer]
    assert "\x1b" not in said.out


def test_two_models_answer_the_same_from_their_own_kind(piped) -> None:
    said = piped("3 + 4 =\n", "tiny.yaml:base", "--versus", "runs/tiny/sft", "--seed", "5")
    assert (said.code, said.err) == (0, "")
    assert re.fullmatch(r"base: .*\nsft: .*\n", said.out, re.DOTALL)
    assert said.out.startswith(piped("3 + 4 =\n", "tiny.yaml:base", "--seed", "5").out)


def test_a_line_that_cannot_be_answered_ends_the_pipe_with_code_2(piped) -> None:
    said = piped("Hi\n" + "7" * 3000 + "\n", "tiny.yaml:sft")
    assert said.out.startswith("sft: ")
    assert is_like(the_line(said), "tiny.yaml:sft: the text takes 3... tokens, but the model ...")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("tiny.yaml:nothing",), "tiny.yaml: there is no stage `nothing`; name one of ..."),
        (("nowhere",), "nowhere: is no folder ..."),
        (("tiny.yaml:base", "--temperature", "-1"), "temperature: `-1.0` should be ..."),
        (("tiny.yaml:base", "--system", "x"), "system: a model that continues text takes no ..."),
        (("tiny.yaml:base", "--port", "8000"), "--port: has a meaning with --web only; add --web"),
        (("tiny.yaml:base", "--open"), "--open: has a meaning with --web only; add --web"),
        (("tiny.yaml:base", "--form", "essay"), "posttrain chat: ..."),
    ],
)
def test_what_cannot_be_is_said_in_a_line(piped, arguments, words) -> None:
    assert is_like(the_line(piped("Hi\n", *arguments)), words)


def test_what_names_no_model_is_refused_before_anything_heavy_is_imported(
    posttrain: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert imported_by(tmp_path, "chat", "--help").isdisjoint({*HEAVY, "rich"})
    refuse_heavy_imports(monkeypatch)
    assert "has not run yet" in the_line(
        posttrain("chat", "tiny.yaml:sft", "--runs", str(tmp_path / "runs"))
    )


def test_on_a_terminal_an_answer_can_be_stopped_and_what_was_written_stays(made: Path) -> None:
    terminal = Terminal(made, "tiny.yaml:base", "--max-new-tokens", "100000")
    terminal.wait_for(r"base continues your text instead of answering.*\n.*/help")
    terminal.wait_for("text> $")
    terminal.type("/max 60\r")
    terminal.wait_for("max_new_tokens: 60\n")
    terminal.type("3 + 4 =\r")
    terminal.wait_for(r"3 \+ 4 =(.|\n)*\d+ tokens · [\d.]+ tokens/s(.|\n)*text> $")
    terminal.type("/save chat.jsonl\r")
    terminal.wait_for(r"saved to chat.jsonl\ntext> $")
    saved = json.loads((made / "chat.jsonl").read_text())
    assert saved["text"].startswith("3 + 4 =")
    terminal.type("\x04")
    assert terminal.exit_code() == 0


def test_ctrl_c_stops_an_answer_and_a_second_one_leaves_with_130(made: Path) -> None:
    terminal = Terminal(
        made, "tiny.yaml:sft", "--max-new-tokens", "900", "--temperature", "9", "--seed", "11"
    )
    terminal.wait_for("you> $")
    for _ in range(20):  # an answer of a token or two is over before it can be stopped
        terminal.type("Hello\r")
        terminal.wait_for(r"Hello\n\n.*\S")
        terminal.type("typed meanwhile\x03")
        terminal.wait_for("stopped|once more, or Ctrl-D, to leave", again=" ")
        if "stopped" in terminal.seen:
            break
    assert "typed" not in terminal.seen
    terminal.wait_for("you> $")
    terminal.type("\x03")
    assert terminal.exit_code(again="\x03") == 130


def test_a_real_model_continues_as_published(piped, real_data: Path) -> None:
    folder = real_data / "stories260K"
    page = (folder / "stories260K.md").read_text()
    published = page.split("tok512.bin -t 0.0\n")[1].split("\n```")[0]
    begun = "Once upon a time"
    said = piped(begun + "\n", str(folder), "--temperature", "0", "--max-new-tokens", "240")
    assert said.code == 0, said
    text = begun + said.out.removeprefix("stories260K: ").removesuffix("\n")
    assert len(text) > 500
    assert published.startswith(text)

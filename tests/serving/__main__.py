"""Labels by a judge behind a real server, and the same ones from the cache without it.

`make prove-judges` and `make prove-judges-vllm`: trains a tiny judge by recipe, starts a server for
it (`transformers serve`, or vLLM, in an environment apart), labels over HTTP, stops the server,
labels anew from what is kept, and holds both results against each other, byte by byte.
"""

import argparse
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

from tests.serving.rows import write_rows

HERE = Path(__file__).parent
STAGES = ("scored",)
_START_S = 900  # vLLM compiles what it needs; longer on a busy machine
_QUIET = {
    "HF_HUB_OFFLINE": "1",
    "VLLM_NO_USAGE_STATS": "1",
    "DO_NOT_TRACK": "1",
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "POSTTRAIN_REPORT": "0",
}


def main() -> int:
    """Run the proof; returns 0 if all of it holds."""
    parser = argparse.ArgumentParser(prog="python -m tests.serving", description=__doc__)
    parser.add_argument("server", choices=("transformers", "vllm"))
    parser.add_argument("python", help="of the environment that the server is installed in")
    parser.add_argument("--folder", type=Path, help="keep everything here (default: nowhere)")
    chosen = parser.parse_args()
    if chosen.folder is not None:
        chosen.folder.mkdir(parents=True, exist_ok=True)
        return prove(chosen.server, chosen.python, chosen.folder)
    with tempfile.TemporaryDirectory() as folder:
        return prove(chosen.server, chosen.python, Path(folder))


def prove(server: str, python: str, folder: Path) -> int:
    """Label with the server and without it; print both, and whether they are the same."""
    write_rows(folder)
    shutil.copy(HERE / "recipe.yaml", folder / "served.yaml")
    posttrain(folder, "run", "served.yaml", "--until", "judge")
    model = folder.resolve() / "judge"
    # Exported, so that a server knows which token ends an answer.
    shutil.rmtree(model, ignore_errors=True)
    posttrain(folder, "export", "served.yaml", "judge", str(model))
    port = _free_port()
    address = [
        f"--set=stages.{stage}.judge.endpoint.{key}={value}"
        for stage in STAGES
        for key, value in (("url", f"http://127.0.0.1:{port}/v1"), ("model", str(model)))
    ]
    with serving(server, python, model, port, folder / "server.log"):
        served = labelled(folder, *address)
    again = labelled(folder, *address, "--force")
    print(f"{server}: {json.dumps(served.figures)}\nfrom the cache: {json.dumps(again.figures)}")
    failed = served.count("failed")
    answered = served.count("asked") - failed
    faults = [
        "the labels differ" if served.rows != again.rows else "",
        "the server was not asked" if not served.count("sent") else "",
        "the server answered less than half" if answered < failed else "",
        "not every answer comes from the cache" if again.count("cached") != answered else "",
        "more than the failures was asked again" if again.count("failed") != failed else "",
    ]
    for fault in filter(None, faults):
        print(f"NOT PROVED: {fault}")
    return int(any(faults))


class Labelled:
    """The rows of the label stages, byte by byte, and what their judges counted."""

    def __init__(self, folder: Path) -> None:
        self.rows = {
            stage: (folder / "runs" / "served" / stage / "rows.jsonl").read_bytes()
            for stage in STAGES
        }
        self.figures = {}
        for stage in STAGES:
            artifact = json.loads(
                (folder / "runs" / "served" / stage / "artifact.json").read_text()
            )
            (judge,) = artifact["metrics"]["judges"].values()
            self.figures[stage] = {"rows": self.rows[stage].count(b"\n"), **judge}

    def count(self, name: str) -> float:
        """Return a count, summed over the stages."""
        return sum(figures[name] for figures in self.figures.values())


def labelled(folder: Path, *options: str) -> Labelled:
    """Run the label stages, and return what they made."""
    for stage in STAGES:
        posttrain(folder, "run", "served.yaml", "--stage", stage, *options)
    return Labelled(folder)


def posttrain(folder: Path, *arguments: str) -> None:
    """Run a command of ours in a folder; raises CalledProcessError if that fails."""
    command = [sys.executable, "-m", "pipeline.cli", *arguments]
    environment = {**os.environ, **_QUIET, "PYTHONPATH": str(HERE.parent.parent)}
    subprocess.run(command, cwd=folder, env=environment, check=True)


@contextmanager
def serving(server: str, python: str, model: Path, port: int, log: Path) -> Iterator[None]:
    """Start a server in a process of its own, wait until it answers, and end it."""
    with log.open("wb") as stream:
        process = subprocess.Popen(
            _command(server, python, model, port),
            env={**os.environ, **_QUIET},
            stdout=stream,
            stderr=subprocess.STDOUT,
        )
        try:
            _wait_for(f"http://127.0.0.1:{port}/health", process, log)
            yield
        finally:
            process.terminate()
            process.wait(60)


def _command(server: str, python: str, model: Path, port: int) -> Sequence[str]:
    where = ("--host", "127.0.0.1", "--port", str(port))
    if server == "transformers":
        module = "transformers.cli.transformers"
        return (python, "-m", module, "serve", str(model), *where, "--device", "cpu")
    module = "vllm.entrypoints.openai.api_server"
    limits = ("--max-model-len", "1024", "--dtype", "float32", "--enforce-eager")
    return (python, "-m", module, "--model", str(model), *where, *limits)


def _wait_for(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    end = time.monotonic() + _START_S
    while time.monotonic() < end:
        if process.poll() is not None:
            raise SystemExit(
                f"the server ended with {process.returncode}:\n{log.read_text()[-3000:]}"
            )
        try:
            with urlopen(url, timeout=5):
                return
        except (URLError, OSError):
            time.sleep(1)
    raise SystemExit(f"the server does not answer:\n{log.read_text()[-3000:]}")


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


if __name__ == "__main__":
    sys.exit(main())

"""`make mutate`: break one line at a time in a copy of the tree; a test must fail each time.

`python -m tests.mutations [WORD ...]` takes the mutations whose promise or file has one of the
words. It prints a table (promise, mutation, the test that failed) and leaves with 1 if no test
failed for one of them, or if its line is not there any more.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from tests.mutations.table import MUTATIONS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.mutations.mutation import Mutation

REPOSITORY = Path(__file__).parents[2]
_LIMIT_S = 600
_SOME_TESTS_FAILED = 1  # pytest's exit code; a module that cannot be imported gives another


def main(words: list[str]) -> int:
    chosen = [each for each in MUTATIONS if not words or any(word in each.name for word in words)]
    survivors = 0
    with tempfile.TemporaryDirectory(prefix="posttrain-mutations-") as folder:
        copy = Path(folder) / "tree"
        copy_tree(copy)
        print("| promise | broken on purpose | the test that failed |\n|---|---|---|", flush=True)
        for each in chosen:
            failed = failing_test(each, copy)
            survivors += failed is None
            print(
                f"| {each.promise} | `{each.path}`: {each.change} | {failed or 'NONE'} |",
                flush=True,
            )
    print(f"\n{len(chosen) - survivors} of {len(chosen)} mutations were caught")
    return 1 if survivors else 0


def copy_tree(copy: Path) -> None:
    """Copy what git tracks, as it lies on disk."""
    listed = subprocess.run(
        ["git", "ls-files"], cwd=REPOSITORY, check=True, capture_output=True, text=True
    )
    for name in listed.stdout.splitlines():
        source = REPOSITORY / name
        if source.is_file():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, copy / name)


def failing_test(mutation: Mutation, copy: Path) -> str | None:
    """Return the first test that fails with the mutation in place; None if all pass."""
    path = copy / mutation.path
    before = path.read_text(encoding="utf-8")
    path.write_text(mutation.applied(before), encoding="utf-8")
    try:
        if mutation.claims:
            return failing_case(mutation, copy)
        done = run_tests(mutation.tests, copy)
    except subprocess.TimeoutExpired:
        return f"none ended within {_LIMIT_S} s"
    finally:
        path.write_text(before, encoding="utf-8")
    if done.returncode == 0:
        return None
    failed = [
        line.split(" - ")[0].split(" ", 1)[1]
        for line in done.stdout.splitlines()
        if line.startswith(("FAILED ", "ERROR "))
    ]
    if done.returncode != _SOME_TESTS_FAILED or not failed:
        raise SystemExit(f"{mutation.name}: the tests did not run:\n{said(done)}")
    whole = run_tests(failed[:1], copy)
    if whole.returncode:
        raise SystemExit(f"{failed[0]} fails without a mutation, too:\n{said(whole)}")
    return f"`{failed[0].rpartition('/')[2]}`"


def failing_case(mutation: Mutation, copy: Path) -> str | None:
    """Return the first case of the claims that does not hold; None if all hold."""
    done = run_claims(["--first", *mutation.tests], copy)
    if done.returncode == 0:
        return None
    failed = re.search(r"^(G\S+) does not hold: (.*?): ", done.stdout, re.M)
    if done.returncode != _SOME_TESTS_FAILED or not failed:
        raise SystemExit(f"{mutation.name}: the claims were not tried:\n{said(done)}")
    return f"{failed[1]}: {failed[2]}"


def run_claims(given: Sequence[str], copy: Path) -> subprocess.CompletedProcess[str]:
    """Try claims in the copy of the tree."""
    return run([sys.executable, "-m", "tests.claims", *given], copy)


def run_tests(names: Sequence[str], copy: Path) -> subprocess.CompletedProcess[str]:
    """Run tests of the copy until one fails.

    Not `python -m pytest`, by which name the command line would call itself in its errors.
    """
    pytest = str(Path(sys.executable).with_name("pytest"))
    return run([pytest, "-x", "-q", "-p", "no:cacheprovider", *names], copy)


def run(command: Sequence[str], copy: Path) -> subprocess.CompletedProcess[str]:
    """Run a command in the copy, and have the processes that it starts import the copy, too."""
    return subprocess.run(
        command,
        cwd=copy,
        env={**os.environ, "PYTHONPATH": str(copy), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        timeout=_LIMIT_S,
        check=False,
    )


def said(done: subprocess.CompletedProcess[str]) -> str:
    """Return the end of what pytest wrote."""
    return (done.stdout + done.stderr)[-2000:]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

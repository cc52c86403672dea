"""What a run records of its stages."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

from pipeline.run.outcomes import record_run
from pipeline.store.run_record import last_run
from pipeline.store.store import Store


def test_stages_are_recorded_in_the_order_of_the_recipe_whichever_ended_first(
    tmp_path: Path,
) -> None:
    """A report begins with the first comparison of the record."""
    store = Store(tmp_path)
    names = ("base", "compare", "preferred")
    stages = [SimpleNamespace(name=name, kind="any", fingerprint=name) for name in names]
    recipe = SimpleNamespace(name="r", run_name="r", path=tmp_path / "r.yaml", seed=1)
    plan: Any = SimpleNamespace(recipe=recipe, stages=stages)
    done: dict[str, Any] = dict.fromkeys(names)
    for name in ("base", "preferred", "compare"):
        done[name] = SimpleNamespace(
            path=store.runs / "store" / name, provenance={"seconds": 1}, metrics={}
        )
        record_run(plan, [], done, store)
    assert tuple(last_run(store, "r")) == names

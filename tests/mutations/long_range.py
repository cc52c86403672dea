"""Mutations of long range and long stories: how far off, what breaks one, how much stands."""

from tests.mutations.mutation import Mutation

_PLOTS = ("tests/unit/eval/tasks/test_task_plots.py",)
_RECALL = ("tests/unit/eval/tasks/test_task_recall.py",)
_CHARTS = ("tests/unit/report/html/test_group_charts.py",)

LONG_RANGE = [
    Mutation(
        "who is not there does nothing",
        "eval/tasks/plot_world.py",
        "elif person not in self.present:",
        "elif person not in self.known:",
        _PLOTS,
    ),
    Mutation(
        "what a story says in the end is where things are",
        "eval/tasks/plot_world.py",
        'if found.get(thing) != self.state.holder_by_thing.get(thing, ""):',
        "if thing not in found:",
        _PLOTS,
    ),
    Mutation(
        "a story counts up to its first break",
        "eval/tasks/plots.py",
        "kept = found[0].sentence",
        "kept = found[-1].sentence",
        _PLOTS,
    ),
    Mutation(
        "documents for a long distance state their fact as far off",
        "eval/tasks/recall.py",
        "between = round((most + 1) ** rng.random()) - 1",
        "between = round(most ** rng.random()) - 1",
        _RECALL,
    ),
    Mutation(
        "a window is marked where groups count tokens",
        "pipeline/report/html/charts.py",
        "cut = (windows or {}) if unit.startswith(_TOKENS) else {}",
        "cut: dict[str, int] = {}",
        _CHARTS,
    ),
    Mutation(
        "a window that a layer lacks is none",
        "pipeline/model_files/attention_window.py",
        'any(kind != "sliding_attention" for kind in kinds)',
        'all(kind != "sliding_attention" for kind in kinds)',
        _CHARTS,
    ),
]

"""How a stage's process is started: in this one, in one of its own, or in several (accelerate).

The work is the same `pipeline.run.worker`; several of it share one stage through Accelerate.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from pipeline.run import progress, worker
from pipeline.run.ranks import Group, run_group

if TYPE_CHECKING:
    from pipeline.config.blocks import LaunchBlock
    from pipeline.recipe.launching import Processes
    from pipeline.run.interrupt import StopRequest
    from pipeline.store.store import Working


def launch(
    working: Working, block: LaunchBlock, processes: Processes, *, stop: StopRequest, lock: int
) -> None:
    """Run the stage that the working folder describes and wait for it.

    lock: descriptor of the stage's lock; each child holds it too, so that a killed runner does not
    free a stage that still runs. Raises the stage's own PosttrainError, or InfrastructureError when
    a process died.
    """
    request = json.loads(working.request.read_text(encoding="utf-8"))
    name, threads = request["name"], request["execution"]["threads"]
    if block.launcher == "in_process":
        with progress.shown(name, course=worker.course_in(request)) as show:
            worker.execute(working, show=show, should_stop=stop)
        return
    group = Group(processes.count, threads, processes.environment)
    run_group(working, group, name=name, stop=stop, lock=lock)

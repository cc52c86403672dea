"""How a stage is started: in this process, in a slot's, in its own, or in several (accelerate).

The work is the same `pipeline.run.worker`; several of it share one stage through Accelerate.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipeline.run import progress, worker
from pipeline.run.ranks import run_group
from pipeline.run.slots import seeing
from pipeline.run.worker_environment import Group

if TYPE_CHECKING:
    from collections.abc import Callable

    from pipeline.config.field_types import Launcher
    from pipeline.recipe.launching import Processes
    from pipeline.run.interrupt import StopRequest
    from pipeline.run.request import Request
    from pipeline.run.slots import Devices, Slot
    from pipeline.store.store import Working


@dataclass(frozen=True)
class Place:
    """Where a stage runs beside others. name: what it is called there.

    slot: None where it has processes of its own. devices: the GPUs that it sees; None for all. say:
    takes a line that its own processes print.
    """

    slot: Slot | None
    board: progress.Board
    name: str
    devices: Devices
    say: Callable[[str], None]


def launch(
    working: Working,
    request: Request,
    launcher: Launcher,
    processes: Processes,
    *,
    stop: StopRequest,
    lock: int,
    place: Place | None = None,
) -> None:
    """Run the stage that a request, which lies in its working folder, asks for; wait for it.

    lock: descriptor of the stage's lock; each child holds it too, so that a killed runner does not
    free a stage that still runs. place: of a stage beside which others run; None for one after
    another. Raises the stage's own PosttrainError, or InfrastructureError when a process died.
    """
    if place is not None and place.slot is not None:
        with place.board.show(place.name, request.course) as show:
            place.slot.run(request.name, working, show, lock=lock, is_stopped=stop)
        return
    if launcher == "in_process":
        with progress.show_progress(request.name, course=request.course) as show:
            worker.execute(working, show=show, should_stop=stop)
        return
    told = {**processes.environment, **seeing(place.devices if place else None)}
    group = Group(processes.count, request.execution["threads"], told)
    say = place.say if place else None
    run_group(working, group, name=request.name, stop=stop, lock=lock, say=say)

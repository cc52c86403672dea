"""A real Slurm of one node in a folder: munged, slurmctld and slurmd, on ports of its own.

Needs Debian's slurmctld, slurmd, slurm-client and munge, and root.
"""

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path

from pipeline.machine import memory_bytes

_DAEMONS = ("munged", "slurmctld", "slurmd", "sbatch")
_CONFIG = """\
ClusterName=proof
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge/socket
CryptoType=crypto/munge
MpiDefault=none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=5,batch_sched_delay=1
SlurmdParameters=config_overrides
ReturnToService=2
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
KillWait=5
DefMemPerCPU=1000
NodeName={host} NodeAddr=127.0.0.1 CPUs=2 RealMemory={memory_mb} State=UNKNOWN
PartitionName=main Nodes={host} Default=YES MaxTime=INFINITE State=UP OverSubscribe=NO
"""


def why_not() -> str:
    """Return why no cluster can be started here; "" if one can."""
    missing = [name for name in _DAEMONS if shutil.which(name) is None]
    if missing:
        needed = "apt-get install slurmctld slurmd slurm-client munge"
        return f"{' and '.join(missing)} not installed: {needed}"
    return "" if os.geteuid() == 0 else "the daemons of a cluster are started by root"


@contextmanager
def cluster(folder: Path) -> Generator[dict[str, str]]:
    """Start a cluster; yields the environment in which Slurm's commands reach it."""
    for name in ("state", "spool", "munge"):
        (folder / name).mkdir(parents=True)
    (folder / "munge").chmod(0o700)
    key = folder / "munge" / "key"
    key.write_bytes(os.urandom(1024))
    key.chmod(0o400)
    config = folder / "slurm.conf"
    config.write_text(
        _CONFIG.format(
            folder=folder,
            host=socket.gethostname().partition(".")[0],
            ports=_free_ports(),
            memory_mb=int(memory_bytes() / 2**20 * 0.9),
        )
    )
    environment = {**os.environ, "SLURM_CONF": str(config)}
    munge = {"key-file": "key", "socket": "socket", "pid-file": "pid", "log-file": "log"}
    options = [f"--{key}={folder}/munge/{name}" for key, name in munge.items()]
    try:
        for command in (
            ["munged", "--force", *options, f"--seed-file={folder}/munge/seed"],
            ["slurmctld", "-c", "-f", str(config)],
            ["slurmd", "-f", str(config)],
        ):
            subprocess.run(command, check=True, env=environment, capture_output=True)
        _wait_for_node(environment)
        yield environment
    finally:
        for name in ("slurmd.pid", "slurmctld.pid", "munge/pid"):
            with suppress(OSError, ValueError):
                os.kill(int((folder / name).read_text()), signal.SIGTERM)


def _free_ports() -> list[int]:
    with socket.socket() as one, socket.socket() as other:
        for each in (one, other):
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in (one, other)]


def _wait_for_node(environment: dict[str, str]) -> None:
    for _ in range(150):
        said = subprocess.run(
            ["sinfo", "-h", "-o", "%t"],
            check=False,
            env=environment,
            capture_output=True,
            text=True,
        )
        if said.stdout.strip() == "idle":
            return
        time.sleep(0.2)
    raise RuntimeError("the node is not idle after 30 s")

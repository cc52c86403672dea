"""What hostile programs must neither see nor change, and whether it is as it was."""

import os
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from reward.sandbox import Call, run_calls
from tests.unit.reward.hostile_programs import SECRET

KEY = "POSTTRAIN_JUDGE_KEY"


@dataclass(frozen=True)
class World:
    """Passed to a program by keyword."""

    folder: str
    secret: str
    artifact: str
    project: str
    parent: int
    sibling: int
    tcp: int
    udp: int
    unix: str


@dataclass(frozen=True)
class Watched:
    """A world, and what shows whether somebody reached it."""

    world: World
    listeners: dict[str, socket.socket]
    sibling: subprocess.Popen[bytes]

    @property
    def arguments(self) -> dict[str, object]:
        """What a program is told of the world."""
        return asdict(self.world)

    def changes(self) -> list[str]:
        """Return what a program has done to the world, which must be nothing."""
        folder, found = Path(self.world.folder), []
        held = {path.name: path.read_text() for path in folder.iterdir() if path.is_file()}
        if held != {"secret": SECRET, "artifact": SECRET} or len(list(folder.iterdir())) != 2:
            found.append(f"the folder holds {sorted(held)}")
        elif Path(self.world.artifact).stat().st_mode & 0o777 != 0o666:
            found.append("the artifact's rights are others")
        for place in ("/tmp", "/dev/shm", "/var/tmp", "/run"):
            with suppress(OSError):
                found += [str(path) for path in Path(place).glob("posttrain-attack-*")]
        if self.sibling.poll() is not None:
            found.append("the sibling has ended")
        for name, listener in self.listeners.items():
            with suppress(BlockingIOError):
                found.append(f"{name}: {listener.recv(1) if name == 'udp' else listener.accept()}")
        honest = run_calls("def double(x): return 2 * x", [Call("double", [21])])
        if [answer.value for answer in honest.answers] != [42]:
            found.append(f"an honest program is not answered: {honest}")
        return found


@contextmanager
def watched_world() -> Iterator[Watched]:
    """Make a world in a new folder that everybody may write to: only the box keeps anyone out."""
    # pytest-socket replaces socket.socket, not the class it derives from.
    kind = socket.socket.__mro__[1] if socket.socket.__name__ == "GuardedSocket" else socket.socket
    tcp = kind(socket.AF_INET, socket.SOCK_STREAM)
    udp = kind(socket.AF_INET, socket.SOCK_DGRAM)
    unix = kind(socket.AF_UNIX, socket.SOCK_STREAM)
    sibling = subprocess.Popen(["sleep", "600"])
    try:
        with tcp, udp, unix, tempfile.TemporaryDirectory(prefix="posttrain-world-") as folder:
            Path(folder).chmod(0o777)
            for name in ("secret", "artifact"):
                path = Path(folder) / name
                path.write_text(SECRET)
                path.chmod(0o666)
            tcp.bind(("127.0.0.1", 0))
            udp.bind(("127.0.0.1", 0))
            unix.bind(f"\0posttrain-{os.getpid()}")
            tcp.listen()
            unix.listen()
            for listener in (tcp, udp, unix):
                listener.setblocking(False)
            os.environ[KEY] = SECRET
            world = World(
                folder=folder,
                secret=f"{folder}/secret",
                artifact=f"{folder}/artifact",
                project=str(Path(__file__).parents[3]),
                parent=os.getpid(),
                sibling=sibling.pid,
                tcp=tcp.getsockname()[1],
                udp=udp.getsockname()[1],
                unix=f"posttrain-{os.getpid()}",
            )
            yield Watched(world, {"tcp": tcp, "udp": udp, "unix": unix}, sibling)
    finally:
        os.environ.pop(KEY, None)
        sibling.kill()
        sibling.wait()

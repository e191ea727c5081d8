"""Ways from an encoder to its decoder that are not bytes: each is open in an ordinary process of this user, none within walls."""

import contextlib
import importlib.util
import json
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from multiprocessing import shared_memory
from pathlib import Path
from typing import Any

import pytest
import torch

import avbench
from avbench.data import splits
from avbench.run.check import synthetic_clips
from avbench.run.frames import receive_header
from avbench.run.seen import seen
from avbench.run.walls import WALLS, Walls
from avbench.run.worker import Worker, room_for
from avbench.task import DecoderSpec
from avbench.types import RunSpec

SPY = '''
"""A decoder that tries every door, and paints those that are open."""
import gc, importlib, os, resource, socket, sys
from multiprocessing import shared_memory
from pathlib import Path
import torch
from avbench.paths import cache_root
from avbench.tokenizer import TokenizerInfo
from avbench.types import ClipBatch, Tokens

def connect(address, kind):
    with socket.socket(kind) as door:
        door.settimeout(2)
        door.connect(address)
        return True

def exists(path):
    return Path(path).exists()

def anywhere(ending):
    roots = [Path(path) for path in PLACES]
    return any(name.endswith(ending) for root in roots for _, _, names in os.walk(root) for name in names)

def writable(folder):
    folder.mkdir(exist_ok=True)
    (folder / "left-by-decode").touch()
    return True

DOORS = {
    "environment": lambda: os.environ["SPY"],
    "a file in /tmp": lambda: exists(f"/tmp/{SECRET}"),
    "a file in the working directory": lambda: exists(SECRET),
    "a file in the home folder": lambda: exists(Path.home() / SECRET),
    "a file in the cache": lambda: exists(cache_root() / SECRET),
    "a file in /dev/shm": lambda: exists(f"/dev/shm/{SECRET}"),
    "shared memory": lambda: shared_memory.SharedMemory(SECRET + "-memory"),
    "a server on this machine": lambda: connect(("127.0.0.1", PORT), socket.AF_INET),
    "an abstract socket": lambda: connect("\\0" + SECRET, socket.AF_UNIX),
    "a socket in a file": lambda: connect(f"/tmp/{SECRET}.socket", socket.AF_UNIX),
    "other processes": lambda: any(b"pytest" in p.read_bytes() for p in Path("/proc").glob("[0-9]*/cmdline")),
    "the reference in a frame": lambda: any("reference" in f.f_locals for f in frames()),
    "the prepared clips": lambda: anywhere(".video.npy"),
    "the bytes of other runs": lambda: anywhere(".avt"),
    "the program that makes the clips": lambda: importlib.import_module("ale_py").__file__,
    "a disk": lambda: any(p.is_block_device() for p in Path("/dev").iterdir()),
    "write into the cache": lambda: writable(cache_root() / "weights"),
    "write beside the code": lambda: writable(Path(__file__).parent),
    "privileges": lambda: int(Path("/proc/self/status").read_text().partition("CapEff:")[2].split()[0], 16),
    "memory without end": lambda: resource.getrlimit(resource.RLIMIT_DATA)[0] == resource.RLIM_INFINITY,
}

def frames():
    frame = sys._getframe()
    while frame := frame.f_back:
        yield frame

def is_open(door):
    try:
        return bool(door())
    except (OSError, KeyError, ImportError):
        return False

class Spy:
    info = TokenizerInfo(name="spy", revision="1", modalities=frozenset({"video"}))
    def encode(self, batch):
        return Tokens(codes={"video": torch.zeros(len(batch), 1, 1, dtype=torch.int64)}, vocab_sizes={"video": 2}, duration_s=4.096)
    def decode(self, tokens):
        video = torch.zeros(len(tokens), 16, 3, 128, 128)
        video[0, 0, 0, 0, :len(DOORS)] = torch.tensor([float(is_open(door)) for door in DOORS.values()])
        return ClipBatch(video=video, fps=16 / tokens.duration_s, sample_rate=24_000)
'''  # fmt: skip
NEEDS_ROOT = {"a disk", "privileges"}  # that an ordinary user has not either


@pytest.fixture
def left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, object]]:
    """What an encoder could have left when this machine made the run: the spy's file, and how to find what was left."""
    secret = f"avbench-spy-{os.getpid()}"
    for name in ("home", "cache/prepared/other", "cache/weights", "work/runs/identity/tokens", "plugin"):
        (tmp_path / name).mkdir(parents=True)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("AVBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("SPY", "seen")
    monkeypatch.chdir(tmp_path / "work")
    (tmp_path / "work/runs/identity/tokens/000000.avt").touch()
    files = [Path("/tmp", secret), Path(secret), Path.home() / secret, tmp_path / "cache" / secret, Path("/dev/shm", secret)]
    for file in files:
        file.touch()
    memory = shared_memory.SharedMemory(secret + "-memory", create=True, size=8)
    doors = [socket.create_server(("127.0.0.1", 0))]
    for address in (f"\0{secret}", f"/tmp/{secret}.socket"):
        door = socket.socket(socket.AF_UNIX)
        door.bind(address)
        door.listen()
        doors.append(door)
    facts = {"SECRET": secret, "PORT": doors[0].getsockname()[1], "PLACES": [str(tmp_path)]}
    (tmp_path / "plugin/spy.py").write_text("".join(f"{name} = {value!r}\n" for name, value in facts.items()) + SPY)
    yield {"file": f"{tmp_path}/plugin/spy.py:Spy", **facts}
    for door in doors:
        door.close()
    with contextlib.suppress(FileNotFoundError):  # Python unlinks what a process that ends has attached
        memory.unlink()
    for file in (*files, Path(f"/tmp/{secret}.socket")):
        file.unlink()


def walled(tmp_path: Path, tokenizer: str) -> Walls:
    """As `avbench verify` has them, around a run of synthetic clips."""
    spec = RunSpec(tokenizer=tokenizer, split="synthetic-val", limit=2)
    around = seen(spec, splits.load(spec.split, limit=2, progress=False), tmp_path / "work/runs/spy")
    (tmp_path / "walls").mkdir()
    cache = {"AVBENCH_CACHE": os.environ["AVBENCH_CACHE"]}
    return Walls(root=tmp_path / "walls", visible=around.visible, hidden=around.hidden, variables=cache, memory_bytes=2**33, cpu_s=600)


def open_doors(worker: Worker) -> set[str]:
    """Those that the spy found open, from the picture that it paints."""
    clips = synthetic_clips()
    try:
        payloads = worker.encode(clips.select([0]), seed=0)
        painted = worker.decode(payloads, seed=0, most=room_for(clips)).clips.video
    finally:
        worker.close()
    assert painted is not None
    return {name for name, value in zip(every_door(), painted[0, 0, 0, 0].tolist(), strict=False) if value}


def every_door() -> list[str]:
    return [line.split('"')[1] for line in SPY.splitlines() if line.startswith('    "') and '": lambda' in line]


def test_no_way_but_the_bytes_leads_into_the_walls(tmp_path: Path, left: dict[str, object]) -> None:
    tokenizer = str(left["file"])
    walls = walled(tmp_path, tokenizer)  # prepares the clips that the spy looks for
    spec, cpu, video = DecoderSpec(tokenizer=tokenizer, checkpoint=None, seed=0), torch.device("cpu"), frozenset({"video"})
    without = open_doors(Worker(spec, cpu, video))
    emulator = set() if importlib.util.find_spec("ale_py") else {"the program that makes the clips"}
    assert set(every_door()) - without <= {"the reference in a frame", *(NEEDS_ROOT if os.getuid() else ()), *emulator}
    worker = Worker(spec, cpu, video, walls=walls)
    worker.about()
    assert worker.standing is not None
    if worker.standing.missing:
        pytest.skip(f"this machine does not allow every wall: {dict(worker.standing.missing)}")
    assert open_doors(worker) == set()


def inside(code: str, *, before: str = "", python: str = sys.executable, user: int | None = None) -> tuple[dict[str, Any], str]:
    """Which walls a plain program finds around it, and what it prints. before: run in the process that puts them up."""
    here, there = socket.socketpair()
    with there, tempfile.TemporaryDirectory() as root:
        Path(root).chmod(0o777)
        package = Path(avbench.__file__).parent
        visible = [str(package), *({sys.prefix, sys.base_prefix} if python == sys.executable else ())]
        plan = {"root": root, "visible": visible, "hidden": [str(package / "data")], "memory_bytes": 2**28, "cpu_s": 60, "here": "/"}
        call = "walls.main(json.loads(sys.argv[1]), int(sys.argv[2]), sys.argv[3:])"
        start = f"import json, sys; from avbench.run import walls; {before or 'pass'}; {call}"
        other: dict[str, Any] = {} if user is None else {"user": user, "group": user, "extra_groups": []}
        command = [python, "-c", start, json.dumps(plan), str(there.fileno()), python, "-c", code]
        environment = {"PYTHONPATH": str(package.parent), "HOME": "/"}
        done = subprocess.run(
            command, pass_fds=(there.fileno(),), cwd="/", env=environment, capture_output=True, text=True, timeout=60, check=False, **other
        )
    return receive_header(here), done.stdout or done.stderr


def allowed() -> bool:
    return not inside("")[0]["missing"]


needs_walls = pytest.mark.skipif(not allowed(), reason="this machine does not allow every wall")
LIMITS = {
    "memory": ("bytearray(2**29)", "MemoryError"),
    "files": ("open('/tmp/big', 'wb').truncate(2**32)", "File too large"),
    "processes": ("import threading; [threading.Thread(target=threading.Event().wait, daemon=True).start() for _ in range(1100)]",
                  "can't start new thread"),
}  # fmt: skip


@needs_walls
@pytest.mark.parametrize("name", LIMITS)
def test_a_walled_in_process_has_limits(name: str) -> None:
    code, error = LIMITS[name]
    assert error in inside(code)[1]


@needs_walls
def test_what_is_hidden_stays_so_in_namespaces_of_its_own() -> None:
    code = (
        "import ctypes, os, avbench; data = os.path.join(os.path.dirname(avbench.__file__), 'data'); libc = ctypes.CDLL(None);"
        "print(libc.unshare(0x10020000), libc.umount2(data.encode(), 2), os.listdir(data))"
    )
    assert inside(code)[1].split()[1:] == ["-1", "[]"]


@pytest.mark.skipif(os.getuid() != 0 or not os.access("/usr/bin/python3", os.X_OK), reason="to become another user one has to be root")
def test_an_ordinary_user_has_the_same_walls() -> None:
    header, said = inside("import os; print(os.getuid(), os.listdir('/proc/self/task') == [str(os.getpid())] == ['1'])",
                          python="/usr/bin/python3", user=65534)  # fmt: skip
    if header["missing"]:
        pytest.skip(f"user namespaces are not for anybody here: {header['missing']}")
    assert said.split() == ["65534", "True"]


def test_a_wall_that_the_kernel_refuses_is_named() -> None:
    refuse = "walls._unshare = lambda flags: (_ for _ in ()).throw(PermissionError(1, 'not permitted'))"
    header, said = inside("import os; print(os.path.isdir('/proc/1'))", before=refuse)
    assert set(header["held"]) == {"memory", "limits", "privileges"} | ({"count"} & set(header["held"]))
    assert {header["missing"][name] for name in ("network", "files", "read-only", "processes", "memory of others")} == {"not permitted"}
    assert set(header["held"]) | set(header["missing"]) == set(WALLS)
    assert said.strip() == "True"

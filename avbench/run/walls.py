"""Walls around a process that runs somebody's decoder: what it must not reach is not there.

`Walls` says, in the main process, what stays visible. `python -m avbench.run.walls` then puts the walls up from inside, with the means of
Linux (man 7 namespaces, man 2 pivot_root, man 2 setrlimit), tells which of them hold, and becomes the command that follows. It works for
root and, where user namespaces are allowed, for anybody. A wall that this machine does not allow is named, never assumed.

Imports nothing but the standard library: this runs before the decoder's interpreter does.
"""

import contextlib
import ctypes
import json
import os
import signal
import socket
import struct
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NoReturn

try:
    import resource
except ImportError:  # not Unix: then no wall is put up
    resource = None  # type: ignore[assignment]

WALLS = {  # in the order in which they are put up
    "network": "no network, not even this machine's own",
    "memory of others": "no shared memory or message queue of other processes",
    "processes": "sees and signals no process but its own, all of which end with it",
    "files": "sees the system's folders, its own code and weights, and an empty temporary folder",
    "read-only": "of what it sees it can change nothing but that folder",
    "count": "at most so many processes and threads",
    "memory": "at most so much memory",
    "limits": "size of files, open files and processor time",
    "privileges": "none, and none to be had",
}
KEPT_VARIABLES = (
    *("PATH", "HOME", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "PYTHONPATH", "VIRTUAL_ENV", "CUDA_HOME", "CUDA_VISIBLE_DEVICES"),
    *("CUDA_DEVICE_ORDER", "CUBLAS_WORKSPACE_CONFIG", "NVIDIA_VISIBLE_DEVICES", "NVIDIA_DRIVER_CAPABILITIES"),
    *("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "HF_HOME", "TORCH_HOME"),
)
SYSTEM = ("bin", "sbin", "lib", "lib32", "lib64", "libx32", "usr", "etc", "opt", "nix", "sys")  # visible as they are, of "/"
DEVICES = ("null", "zero", "full", "random", "urandom", "tty", "kfd", "dri")  # and nvidia*: no disk among them
COMPILED = ("NUMBA_CACHE_DIR", "TRITON_CACHE_DIR", "MPLCONFIGDIR")  # where libraries keep what they compile: else beside their code
TEMPORARY = ("/tmp", "/dev/shm")  # empty, and its own
MAX_PROCESSES = 1024
MAX_OPEN = 4096
MAX_FILE_BYTES = 2**31  # of each file, and of all in the temporary folder


@dataclass(frozen=True, kw_only=True)
class Walls:
    """What a process within them sees and may use.

    root: an empty folder that is there for as long as the process runs. visible: folders and files that it needs beside the system's;
    hidden: what is empty there although it lies in a visible folder. memory_bytes: of its own (not files' pages); None: no limit.
    """

    root: Path
    visible: tuple[Path, ...]
    hidden: tuple[Path, ...] = ()
    memory_bytes: int | None = None
    cpu_s: int | None = None
    variables: Mapping[str, str] = field(default_factory=dict)  # of its environment, beside KEPT_VARIABLES

    def around(self, command: Sequence[str], connection: int) -> list[str]:
        """The command that puts them up, tells of it on the socket number `connection`, and becomes `command`."""
        plan = {"root": str(self.root), "memory_bytes": self.memory_bytes, "cpu_s": self.cpu_s, "here": os.getcwd()}
        shown, hidden = ([str(path) for path in paths] for paths in (self.visible, self.hidden))
        return [sys.executable, "-P", "-m", "avbench.run.walls", json.dumps({**plan, "visible": shown, "hidden": hidden}),
                str(connection), *command]  # fmt: skip

    def environment(self, found: Mapping[str, str]) -> dict[str, str]:
        """What is left of an environment."""
        return {name: found[name] for name in KEPT_VARIABLES if name in found} | dict(self.variables)


@dataclass(frozen=True, kw_only=True)
class Standing:
    """Which walls hold, and why the others do not (name -> what the kernel said)."""

    held: tuple[str, ...]
    missing: Mapping[str, str]

    @classmethod
    def of(cls, header: Mapping[str, Any]) -> "Standing":
        """Raises ValueError for another header."""
        held, missing = header.get("held"), header.get("missing")
        if not isinstance(held, list) or not isinstance(missing, dict) or {*held, *missing} != set(WALLS):
            raise ValueError("its first words are not about walls")
        return cls(held=tuple(name for name in WALLS if name in held), missing={name: str(why)[:200] for name, why in missing.items()})

    def facts(self) -> dict[str, Any]:
        """As manifest.json has it."""
        return asdict(self)


# Inside: everything below runs in the process that becomes the decoder's.

_libc = ctypes.CDLL(None, use_errno=True)
_NEWNS, _NEWUTS, _NEWIPC, _NEWUSER, _NEWPID, _NEWNET = 0x00020000, 0x04000000, 0x08000000, 0x10000000, 0x20000000, 0x40000000
_MS_NOSUID, _MS_NODEV, _MS_NOEXEC, _MS_BIND, _MS_REC, _MS_PRIVATE, _MNT_DETACH = 2, 4, 8, 0x1000, 0x4000, 0x40000, 2
_PR_SET_PDEATHSIG, _PR_CAPBSET_DROP, _PR_SET_NO_NEW_PRIVS, _LAST_CAPABILITY = 1, 24, 38, 63
_PIVOT_ROOT = {"x86_64": 155, "aarch64": 41}  # of syscalls; libc has no name for them
_MOUNT_SETATTR, _AT_FDCWD, _AT_RECURSIVE, _ATTR_RDONLY, _ATTR_NOSUID = 442, -100, 0x8000, 1, 2


def _call(what: str, code: int) -> None:
    """Raise OSError where a function of libc says so."""
    if code < 0:
        raise OSError(ctypes.get_errno(), f"{what}: {os.strerror(ctypes.get_errno())}")


def _mount(source: str, target: str, kind: str = "", flags: int = 0, options: str = "") -> None:
    words = [word.encode() for word in (source, target, kind)]
    _call(f"mount {target}", _libc.mount(*words, ctypes.c_ulong(flags), options.encode()))


def _unshare(flags: int) -> None:
    _call("unshare", _libc.unshare(flags))


def _apart() -> None:
    """Namespaces of its own: as root directly, otherwise, or where root may not, as the root of a user namespace."""
    mine = _NEWNS | _NEWPID | _NEWNET | _NEWIPC | _NEWUTS
    user, group = os.getuid(), os.getgid()
    try:
        _unshare(mine | _NEWUSER)
    except OSError:
        _unshare(mine)
        return
    for file, text in (("setgroups", "deny"), ("uid_map", f"{user} {user} 1"), ("gid_map", f"{group} {group} 1")):
        Path("/proc/self", file).write_text(text)


def _own_files(plan: Mapping[str, Any]) -> None:
    """A file system of its own: the system's folders and what is visible, read-only; empty ones for all else that programs expect."""
    root = plan["root"]
    _mount("none", "/", flags=_MS_REC | _MS_PRIVATE)
    _mount("tmpfs", root, "tmpfs", _MS_NOSUID, "size=16m,mode=755")
    for folder in TEMPORARY:  # first: a plugin may lie in one
        os.makedirs(root + folder)
        _mount("tmpfs", root + folder, "tmpfs", _MS_NOSUID | _MS_NODEV, f"size={MAX_FILE_BYTES},mode=1777")
    for name in SYSTEM:
        if os.path.islink(f"/{name}"):
            os.symlink(os.readlink(f"/{name}"), f"{root}/{name}")
        elif os.path.isdir(f"/{name}"):
            _show(root, f"/{name}")
    # A folder may be shown inside a hidden one inside a shown one: the shorter path comes first.
    for path, shown in sorted([(path, True) for path in plan["visible"]] + [(path, False) for path in plan["hidden"]]):
        if shown:
            _show(root, path)
        elif os.path.isdir(root + path):
            _mount("tmpfs", root + path, "tmpfs", _MS_NOSUID | _MS_NODEV, "size=1m,mode=755")
    for name in (*DEVICES, *(name for name in os.listdir("/dev") if name.startswith("nvidia"))):
        if os.path.exists(f"/dev/{name}"):
            _show(root, f"/dev/{name}")
    for name, target in (("fd", "/proc/self/fd"), ("stdin", "fd/0"), ("stdout", "fd/1"), ("stderr", "fd/2")):
        os.symlink(target, f"{root}/dev/{name}")
    for name in ("proc", "run", "var"):
        os.makedirs(f"{root}/{name}", exist_ok=True)
    os.symlink("/tmp", f"{root}/var/tmp")
    for folder in (plan["here"], os.environ.get("HOME", "/")):
        if os.path.isdir(folder):
            os.makedirs(root + folder, exist_ok=True)
    try:
        _mount("proc", f"{root}/proc", "proc", _MS_NOSUID | _MS_NODEV | _MS_NOEXEC)
    except OSError:  # in a container whose own /proc has parts covered up
        _mount("/proc", f"{root}/proc", flags=_MS_BIND | _MS_REC)
    _become_root(root)
    os.chdir(plan["here"])


def _show(root: str, path: str) -> None:
    """`path` at the same place below `root`; nothing where an outer folder has shown it already, or there is none."""
    target = root + path
    if not os.path.exists(path) or (os.path.exists(target) and os.path.samefile(path, target)):
        return
    if os.path.isdir(path):
        os.makedirs(target, exist_ok=True)
    else:
        os.makedirs(os.path.dirname(target), exist_ok=True)
        open(target, "x").close()
    _mount(path, target, flags=_MS_BIND | _MS_REC)


def _become_root(root: str) -> None:
    os.chdir(root)
    _call("pivot_root", _libc.syscall(_PIVOT_ROOT[os.uname().machine], b".", b"."))
    _call("umount", _libc.umount2(b".", _MNT_DETACH))  # the old root, which lay on top
    os.chdir("/")


def _count() -> None:
    """While /proc can be written. RLIMIT_NPROC does not hold for root, and before Linux 6.14 pid_max is the whole machine's."""
    if tuple(int(part) for part in os.uname().release.split("-")[0].split(".")[:2]) >= (6, 14) and os.getpid() == 1:
        Path("/proc/sys/kernel/pid_max").write_text(str(MAX_PROCESSES))
    elif os.getuid():
        resource.setrlimit(resource.RLIMIT_NPROC, (MAX_PROCESSES, MAX_PROCESSES))
    else:
        raise OSError(0, "root's are not counted before Linux 6.14")


def _read_only() -> None:
    _attributes("/", _ATTR_RDONLY | _ATTR_NOSUID, 0, _AT_RECURSIVE)
    for folder in TEMPORARY:
        _attributes(folder, 0, _ATTR_RDONLY, 0)


def _attributes(path: str, given: int, taken: int, how: int) -> None:
    """Of a mount; of all below it, too, where `how` says so. Linux 5.12."""
    what = struct.pack("=QQQQ", given, taken, 0, 0)
    _call("mount_setattr", _libc.syscall(_MOUNT_SETATTR, _AT_FDCWD, path.encode(), how, what, ctypes.c_size_t(len(what))))


def _memory(most: int | None) -> None:
    if most is None:
        raise OSError(0, "no limit on a GPU's machine: its driver reserves more than there is")
    resource.setrlimit(resource.RLIMIT_DATA, (most, most))


def _limits(cpu_s: int | None) -> None:
    for kind, most in (
        (resource.RLIMIT_FSIZE, MAX_FILE_BYTES), (resource.RLIMIT_NOFILE, MAX_OPEN), (resource.RLIMIT_CORE, 0), (resource.RLIMIT_CPU, cpu_s)
    ):  # fmt: skip
        if most is not None:
            before = resource.getrlimit(kind)[1]
            most = most if before == resource.RLIM_INFINITY else min(most, before)
            resource.setrlimit(kind, (most, most))


def _no_privileges() -> None:
    for capability in range(_LAST_CAPABILITY + 1):
        _libc.prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0)  # what there is not cannot be dropped; what is left is gone with execve
    _call("no_new_privs", _libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))


def _die_with_parent() -> None:
    with contextlib.suppress(AttributeError):  # not Linux
        _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def _put_up(name: str, work: Callable[[], None], missing: dict[str, str]) -> bool:
    """Whether it stands; otherwise the reason is among `missing`."""
    try:
        work()
    except (OSError, ValueError, KeyError, AttributeError) as error:  # AttributeError: not Linux
        missing[name] = str(getattr(error, "strerror", None) or error)
    return name not in missing


def _enter(plan: Mapping[str, Any], connection: int, command: Sequence[str], missing: dict[str, str]) -> NoReturn:
    """The process that becomes `command`."""
    _die_with_parent()
    os.environ["TMPDIR"] = plan["root"]
    apart = "network" not in missing
    seen = apart and _put_up("files", lambda: _own_files(plan), missing)
    _put_up("count", _count, missing)
    if seen:
        os.environ["TMPDIR"] = TEMPORARY[0]
        _put_up("read-only", _read_only, missing)
    else:
        missing["read-only"] = missing.get("files", missing.get("network", ""))
    if not apart:
        missing |= dict.fromkeys(("memory of others", "processes", "files"), missing["network"])
    os.environ |= dict.fromkeys(COMPILED, os.environ["TMPDIR"])
    _put_up("memory", lambda: _memory(plan["memory_bytes"]), missing)
    _put_up("limits", lambda: _limits(plan["cpu_s"]), missing)
    _put_up("privileges", _no_privileges, missing)
    words = json.dumps({"held": [name for name in WALLS if name not in missing], "missing": missing}).encode()
    with socket.socket(fileno=os.dup(connection)) as said:
        said.sendall(struct.pack(">I", len(words)) + words)
    os.execvp(command[0], list(command))


def main(plan: Mapping[str, Any], connection: int, command: Sequence[str]) -> None:
    """Puts the walls up in a child, the first process of its namespace, and ends as it does."""
    _die_with_parent()
    missing: dict[str, str] = {}
    _put_up("network", _apart, missing)
    child = os.fork()
    if not child:
        try:
            _enter(plan, connection, command, missing)
        finally:
            os._exit(127)
    os.close(connection)
    status = os.waitpid(child, 0)[1]
    if os.WIFSIGNALED(status):
        os.kill(os.getpid(), os.WTERMSIG(status))
    os._exit(os.waitstatus_to_exitcode(status))


if __name__ == "__main__":
    main(json.loads(sys.argv[1]), int(sys.argv[2]), sys.argv[3:])

"""A Dockerfile followed step by step in a fresh directory, and what it makes run, without a container engine.

A root directory has this machine's `/usr` and `/etc` below a writable layer, and this Python where the base
image has its own; everything else in it comes from the Dockerfile. What a missing package of the base image
or another version of Python would do is therefore not seen.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import pathspec
from dockerfile_parse import DockerfileParser

_BASE_ENVIRONMENT: Final = {"PATH": "/usr/local/bin:/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin"}
_CACHE_MOUNT: Final = re.compile(r"--mount=type=cache,target=(\S+)\s+")
_BUILD_SECONDS: Final = 540
_NAMESPACE_SECONDS: Final = 30.0
# How this machine reaches its package index.
_OF_THE_BUILDER: Final = ("PIP_", "UV_", "SSL_", "HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy")

# $1 the root, $2 where its /usr is written, $3 this Python, $4 `ro` or `rw`; then mounts, `--`, the command.
_ENTER: Final = r"""
set -e
root=$1 layer=$2 python=$3 mode=$4; shift 4
mount --bind "$root" "$root"
written="lowerdir=/usr,upperdir=$layer/upper,workdir=$layer/work"
# Only one process at a time may have a layer for writing.
if [ "$mode" = ro ]; then written="lowerdir=$layer/upper:/usr"; fi
mount -t overlay overlay -o "$written" "$root/usr"
mount --bind "$python" "$root/usr/local"
mount -t proc proc "$root/proc"
mount --rbind /dev "$root/dev"
if [ "$mode" = ro ]; then mount -o remount,ro,bind "$root"; fi
while [ "$1" != -- ]; do mount $1 "$2" "$root$3"; shift 3; done
shift
# Not `exec`: this shell, root and the first process of the namespace, is what --kill-child reaches. A process
# that changes its user is not killed with its parent any more.
chroot "$root" "$@" || exit $?
exit 0
"""


@dataclass(frozen=True)
class Mount:
    """Something of this machine at a place in the image: a bind mount, or an empty tmpfs."""

    target: str
    source: Path | None = None
    read_only: bool = False

    def arguments(self) -> list[str]:
        """Three words for the script: options, source, target."""
        if self.source is None:
            return ["-t tmpfs -o mode=1777", "tmpfs", self.target]
        return ["-o bind,ro" if self.read_only else "--bind", str(self.source), self.target]


@dataclass
class Image:
    """A root directory, and how the Dockerfile says that it is used."""

    root: Path
    environment: dict[str, str] = field(default_factory=lambda: dict(_BASE_ENVIRONMENT))
    user: str = "0:0"
    folder: str = "/"
    command: list[str] = field(default_factory=list)
    base: str = ""

    @classmethod
    def empty(cls, root: Path) -> Image:
        """What a base image is here: folders, this machine's /etc and, while something runs, its /usr."""
        for name in ("usr", "proc", "dev", "opt", "srv", "home", "root", "run", "sys", "var/tmp"):
            (root / name).mkdir(parents=True)
        (root / "tmp").mkdir(mode=0o1777)
        (root / "tmp").chmod(0o1777)
        for name in ("bin", "sbin", "lib", "lib64"):
            if (link := Path("/", name)).is_symlink():
                (root / name).symlink_to(link.readlink())
        shutil.copytree("/etc", root / "etc", symlinks=True, ignore_dangling_symlinks=True)
        for part in ("upper", "work"):
            root.with_suffix(".layer").joinpath(part).mkdir(parents=True)
        image = cls(root)
        # As in the base image, so that Python's own library is found where it is now.
        subprocess.run(image.argv(["ldconfig"]), check=True)
        return image

    def at(self, path: str) -> Path:
        """Where a path of the image, relative ones from its working directory, is on this machine."""
        return self.root / os.path.join(self.folder, path).lstrip("/")  # noqa: PTH118  # absolute wins

    def argv(
        self,
        command: Sequence[str],
        *,
        environment: Mapping[str, str] = {},
        mounts: Sequence[Mount] = (),
        user: str | None = None,
        read_only: bool = False,
        network: int | None = None,
    ) -> list[str]:
        """The command line that runs a command in the image, as a container engine would.

        Args:
            command: Program and arguments.
            environment: Variables besides the image's; nothing of this process's is passed on.
            mounts: What is seen at which place; the places must be in the image.
            user: `UID:GID` in place of the image's.
            read_only: Nothing but the mounts can be written.
            network: Process whose network namespace is joined; this machine's by default.
        """
        uid, gid = (user or self.user).split(":")
        variables = [f"{name}={value}" for name, value in (self.environment | dict(environment)).items()]
        enter = ["nsenter", f"--net=/proc/{network}/ns/net"] if network else []
        for mount in mounts:
            place = self.at(mount.target)
            if mount.source is not None and mount.source.is_file():
                place.parent.mkdir(parents=True, exist_ok=True)
                place.touch()
            else:
                place.mkdir(parents=True, exist_ok=True)
        return [
            *enter, "unshare", "--mount", "--pid", "--fork", "--kill-child", "sh", "-c", _ENTER, "enter",
            str(self.root), str(self.root.with_suffix(".layer")), sys.base_prefix,
            "ro" if read_only else "rw",
            *(word for mount in mounts for word in mount.arguments()), "--",
            "setpriv", f"--reuid={uid}", f"--regid={gid}", "--clear-groups",
            *(() if uid == "0" else ("--no-new-privs", "--bounding-set=-all", "--inh-caps=-all")),
            "env", "--ignore-environment", f"--chdir={self.folder}", *variables, *command,
        ]  # fmt: skip


def namespace(process: subprocess.Popen[bytes]) -> str:
    """The process namespace that a command line of `Image.argv` has made, once it has."""
    mine, path = Path("/proc/self/ns/pid").readlink(), Path(f"/proc/{process.pid}/ns/pid_for_children")
    end = time.monotonic() + _NAMESPACE_SECONDS
    while (found := path.readlink()) == mine:
        assert time.monotonic() < end, "there is no namespace"
        time.sleep(0.01)
    return str(found)


def processes(namespaces: Collection[str]) -> list[int]:
    """What runs in process namespaces."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it has just ended
            if str((process / "ns" / "pid").readlink()) in namespaces:
                found.append(int(process.name))
    return found


def kill(started: Collection[subprocess.Popen[bytes]]) -> None:
    """Kill what command lines of `Image.argv` run, with everything that they have started.

    Raises:
        AssertionError: Something outlives it.
    """
    namespaces = {namespace(process) for process in started if process.poll() is None}
    for process in started:
        process.kill()
        process.wait()
    end = time.monotonic() + _NAMESPACE_SECONDS
    while left := processes(namespaces):
        assert time.monotonic() < end, f"{left} are left"
        time.sleep(0.05)


def missing_privileges() -> str | None:
    """Say why no root directory can be entered here, if so."""
    if os.geteuid():
        return "only root may mount"
    probe = ["unshare", "--mount", "--pid", "--net", "--fork", "mount", "-t", "tmpfs", "tmpfs", "/mnt"]
    done = subprocess.run(probe, capture_output=True, text=True, check=False)
    return done.stderr.strip() if done.returncode else None


def build(dockerfile: Path, context: Path, folder: Path, *, cache: Path) -> Image:
    """Follow a Dockerfile to its end.

    Args:
        dockerfile: The file.
        context: Folder that `COPY` copies from, less what its `.dockerignore` leaves out.
        folder: Where the root directories are made.
        cache: Folder that stands in for every cache mount.

    Raises:
        AssertionError: A step failed, or copies nothing.
    """
    with dockerfile.open("rb") as file:
        parser = DockerfileParser(fileobj=file, parent_env=_BASE_ENVIRONMENT)
        steps = list(zip(parser.structure, parser.context_structure, strict=True))
    sent = _sent(context)
    stages: dict[str, Image] = {}
    image = Image(folder)
    for step, known in steps:
        name, value = step["instruction"], step["value"]
        if name == "FROM":
            base, _, alias = value.partition(" AS ")
            image = Image.empty(folder / f"stage-{len(stages)}")
            image.base = base
            stages[alias or base] = image
            continue
        image.environment = _BASE_ENVIRONMENT | known.envs
        if name == "RUN":
            _run(image, value, known.args, cache)
        elif name == "COPY":
            _copy(image, _resolved(value, known.args | known.envs), sent, context, stages)
        elif name == "WORKDIR":
            image.folder = value
            image.at(".").mkdir(parents=True, exist_ok=True)
        elif name == "USER":
            image.user = value
        elif name == "CMD":
            image.command = [word.strip('"') for word in value.strip("[]").split(", ")]
        else:
            assert name in {"COMMENT", "ARG", "ENV"}, f"{name} is not understood by this test"
    return image


def _resolved(text: str, values: Mapping[str, str]) -> str:
    return re.sub(r"\$\{?(\w+)\}?", lambda found: values[found[1]], text)


def _sent(context: Path) -> list[str]:
    # The last line that matches a file or a folder above it decides, which is Docker's rule and not Git's.
    ignored = pathspec.PathSpec.from_lines("gitignore", (context / ".dockerignore").read_text().splitlines())
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=context, capture_output=True, text=True, check=True,
    )  # fmt: skip
    return [path for path in listed.stdout.splitlines() if not ignored.match_file(path)]


def _run(image: Image, value: str, arguments: Mapping[str, str], cache: Path) -> None:
    caches = [Mount(target, cache) for target in _CACHE_MOUNT.findall(value)]
    builder = {name: text for name, text in os.environ.items() if name.startswith(_OF_THE_BUILDER)}
    resolver = Path("/etc/resolv.conf").resolve()
    names = [Mount("/etc/resolv.conf", resolver, read_only=True)] if resolver.exists() else []
    done = subprocess.run(
        image.argv(
            ["/bin/sh", "-c", _CACHE_MOUNT.sub("", value)],
            environment={"HOME": "/root"} | builder | image.environment | dict(arguments),
            mounts=[*caches, *names],
        ),
        capture_output=True, text=True, timeout=_BUILD_SECONDS, check=False,
    )  # fmt: skip
    assert done.returncode == 0, f"RUN {value}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"


def _copy(image: Image, value: str, sent: Sequence[str], context: Path, stages: Mapping[str, Image]) -> None:
    words = shlex.split(value)
    if words[0].startswith("--from="):
        source, target = words[1:]
        origin = stages[words[0].removeprefix("--from=")].at(source)
        image.at(target).parent.mkdir(parents=True, exist_ok=True)
        # Links in place of copies: the stages share a disk, and the first is not used again.
        subprocess.run(["cp", "--archive", "--link", str(origin), str(image.at(target))], check=True)
        return
    *sources, target = words
    for source in sources:
        found = [path for path in sent if path == source or path.startswith(f"{source}/")]
        assert found, f"COPY {source}: there is no such file, or .dockerignore leaves it out"
        for path in found:
            inner = os.path.relpath(path, source)
            place = image.at(target) if inner == "." else image.at(target) / inner
            if inner == "." and target.endswith("/"):
                place = image.at(target) / Path(path).name
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(context / path, place)


@contextmanager
def two_networks() -> Iterator[tuple[int, int]]:
    """Two network namespaces with nothing but a cable between them, 10.0.0.1 and 10.0.0.2.

    Yields:
        A process in each, which ends with the block and takes its namespace with it.
    """
    with _pause() as one, _pause() as two:
        name = f"cm{one}"
        link = ["ip", "link", "add", name, "netns", str(one), "type", "veth"]
        subprocess.run([*link, "peer", "name", name, "netns", str(two)], check=True)
        for number, process in enumerate((one, two), start=1):
            inside = ["nsenter", f"--net=/proc/{process}/ns/net", "ip"]
            subprocess.run([*inside, "link", "set", "lo", "up"], check=True)
            subprocess.run([*inside, "address", "add", f"10.0.0.{number}/24", "dev", name], check=True)
            subprocess.run([*inside, "link", "set", name, "up"], check=True)
            # Containers have one, and Ray finds its own address by it.
            subprocess.run([*inside, "route", "add", "default", "via", f"10.0.0.{3 - number}"], check=True)
        yield one, two


@contextmanager
def _pause() -> Iterator[int]:
    # Says that it is there once it is in its namespace.
    process = subprocess.Popen(
        ["unshare", "--net", "sh", "-c", "echo; exec cat"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdout.readline()
    try:
        yield process.pid
    finally:
        process.send_signal(signal.SIGKILL)
        process.communicate()

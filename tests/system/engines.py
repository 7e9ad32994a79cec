# Copyright (c) 2026 oom.forensics contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Real Docker and Podman for tests: started on a machine without systemd, and gone without a trace.

Tests take the fixtures ``docker`` and ``podman`` of conftest.py.
"""

import contextlib
import os
import shutil
import signal
import subprocess
import tarfile
import tempfile
import time
from pathlib import Path

IMAGE = "localhost/oom-forensics-test:busybox"
# A variable of the image: no result may hold it, nor any other variable of a container.
SECRET = "hunter2-of-the-image"
MIB = 1 << 20

_BUSYBOX = Path("/bin/busybox")
_APPLETS = ("sh", "sleep", "tail", "rm", "touch", "cat", "echo", "env")
_SOCKET = Path("/run/docker.sock")
_CGROUPS = Path("/sys/fs/cgroup")
_FORWARDING = Path("/proc/sys/net/ipv4/ip_forward")
# A first process that lives on, and whose child eats all the memory that it can get when somebody touches a file.
HUNGRY = ("sh", "-c", "while :; do if [ -e /eat ]; then rm /eat; tail /dev/zero; fi; sleep 0.1; done")
# No CAP_SYS_RESOURCE: an engine's own defaults may be above the limits that this process could never raise.
_ULIMIT = "20000:20000"
_PROGRAMS = {
    "docker": ("docker", "dockerd", "containerd", "runc", "iptables", "setpriv"),
    "podman": ("podman", "conmon", "runc"),
}
# What the engines leave behind where they ran for the first time.
_TRACES = (
    "/etc/cni/net.d/cni.lock",
    "/etc/docker/key.json",
    "/run/containerd",
    "/run/containers",
    "/run/crun",
    "/run/docker",
    "/run/libpod",
    "/run/netns",
    "/run/runc",
    "/var/lib/cni",
    "/var/lib/containers",
)
_CGROUP_PARENTS = ("docker", "libpod_parent", "conmon", "moby", "oom-forensics-test")


def why_not(engine):
    """Why containers of this engine cannot be run here, as a sentence; None where they can."""
    if os.geteuid() != 0:
        return "{0} needs root".format(engine)
    if not _BUSYBOX.exists():
        return "{0} is not here; install busybox-static".format(_BUSYBOX)
    missing = [name for name in _PROGRAMS[engine] if shutil.which(name) is None]
    return "{0} needs {1}, not found in PATH".format(engine, ", ".join(missing)) if missing else None


class Engine:
    """An engine that runs, and the containers that a test started with it."""

    def __init__(self, name, folder):
        self.name = name
        self.made = []
        # conmon 2.1 leaves an empty file `oom` where Podman was called, when its container has an OOM kill.
        self._folder = folder

    def call(self, *arguments, check=True):
        """The engine's command; its output. With ``check``, a failure ends the test with what it said."""
        done = subprocess.run(
            [self.name, *arguments],
            capture_output=True,
            text=True,
            timeout=60,
            stdin=subprocess.DEVNULL,
            cwd=self._folder,
            check=False,
        )
        if check and done.returncode:
            raise AssertionError("{0} {1}: {2}".format(self.name, " ".join(arguments), done.stderr))
        return done.stdout.strip()

    def run(self, name, *options, command=HUNGRY):
        """Start a container without network; its whole id. ``options`` are those of ``run``."""
        identifier = self.call("run", "--detach", "--name", name, "--network", "none", *options, IMAGE, *command)
        self.made.append(identifier)
        return identifier

    def create(self, name, *options, command=HUNGRY):
        """Make a container and do not start it; its whole id."""
        identifier = self.call("create", "--name", name, "--network", "none", *options, IMAGE, *command)
        self.made.append(identifier)
        return identifier

    def exec(self, container, *command, check=True):
        return self.call("exec", container, *command, check=check)

    def stop(self, container):
        self.call("stop", "--time", "0", container)

    def remove(self, container):
        at_once = ["--time", "0"] if self.name == "podman" else []  # it waits for the first process to end by itself
        self.call("rm", "--force", *at_once, container, check=False)
        self.made = [each for each in self.made if not each.startswith(container)]

    def remove_all(self):
        for each in list(self.made):
            self.remove(each)

    def first_process(self, container):
        return int(self.call("inspect", "--format", "{{.State.Pid}}", container))

    def cgroup(self, container):
        """The container's path in the hierarchy that limits memory, as the kernel logs it."""
        lines = Path("/proc/{0}/cgroup".format(self.first_process(container))).read_text().splitlines()
        paths = {controllers: path for _number, controllers, path in (line.split(":", 2) for line in lines)}
        return next((path for names, path in paths.items() if "memory" in names.split(",")), paths.get(""))

    def kernel_file(self, container, version1, version2):
        """The text of a file of the container's cgroup, by its name on either version of the hierarchy."""
        path = self.cgroup(container)
        first = _CGROUPS / "memory" / path.lstrip("/") / version1
        return (first if first.exists() else _CGROUPS / path.lstrip("/") / version2).read_text()

    def kills(self, container):
        """How many processes the kernel says that it killed in the container."""
        lines = self.kernel_file(container, "memory.oom_control", "memory.events").splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("oom_kill "))

    def eat_in_child(self, container):
        """Make the kernel kill a child of the first process of a container that runs HUNGRY and has a limit.

        The first process lives on. The number of kills, which is 1.
        """
        before = self.kills(container)
        self.exec(container, "touch", "/eat")
        wait_for(lambda: self.kills(container) > before, "a kill in {0} {1}".format(self.name, container), 30)
        return self.kills(container) - before


def wait_for(reached, what, seconds=10):
    deadline = time.monotonic() + seconds
    while not reached():
        if time.monotonic() > deadline:
            raise AssertionError("{0}: not within {1} seconds".format(what, seconds))
        time.sleep(0.05)


@contextlib.contextmanager
def docker():
    """Docker: the daemon that runs here, else one of our own at the default socket."""
    with _traces_removed(), tempfile.TemporaryDirectory(prefix="oom-forensics-") as scratch:
        with contextlib.ExitStack() as stack:
            if subprocess.run(["docker", "ps"], capture_output=True, timeout=60, check=False).returncode:
                stack.enter_context(_dockerd(Path(scratch)))
            engine = Engine("docker", scratch)
            engine.call("import", "--change", "ENV SECRET=" + SECRET, _image(Path(scratch)), IMAGE)
            try:
                yield engine
            finally:
                engine.remove_all()
                engine.call("image", "rm", "--force", IMAGE, check=False)
        _leave(scratch)


@contextlib.contextmanager
def podman():
    """Podman with a store of its own, to which the environment of this process and of its children leads."""
    with _traces_removed(), tempfile.TemporaryDirectory(prefix="oom-forensics-") as scratch:
        with _environment(_podman_settings(Path(scratch))):
            engine = Engine("podman", scratch)
            engine.call("import", "--change", "ENV SECRET=" + SECRET, _image(Path(scratch)), IMAGE)
            try:
                yield engine
            finally:
                engine.remove_all()
                engine.call("rm", "--all", "--force", "--time", "0", check=False)
        _leave(scratch)


def _image(scratch):
    """A root file system of busybox alone, as an archive."""
    archive = scratch / "image.tar"
    with tarfile.open(archive, "w") as stream:
        stream.add(_BUSYBOX.resolve(), "bin/busybox")
        for applet in _APPLETS:
            link = tarfile.TarInfo("bin/" + applet)
            link.type, link.linkname = tarfile.SYMTYPE, "busybox"
            stream.addfile(link)
    return str(archive)


@contextlib.contextmanager
def _dockerd(scratch):
    options = {
        "--host": "unix://{0}".format(_SOCKET),
        "--data-root": scratch / "data",
        "--exec-root": scratch / "exec",
        "--pidfile": scratch / "docker.pid",
        "--bridge": "none",
        "--default-ulimit": "nofile=" + _ULIMIT,
    }
    # It ends with this process, however that ends: the next run would take it for the machine's own.
    argv = ["setpriv", "--pdeathsig", "TERM", "dockerd", "--iptables=false", "--ip6tables=false"]
    argv += [word for name, value in options.items() for word in (name, str(value))]
    with (scratch / "dockerd.log").open("wb") as log:
        daemon = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
    try:
        _wait_for_dockerd(scratch / "dockerd.log")
        yield
    finally:
        daemon.send_signal(signal.SIGTERM)  # it ends its containerd
        try:
            daemon.wait(30)
        except subprocess.TimeoutExpired:
            daemon.kill()
            daemon.wait()
        _SOCKET.unlink(missing_ok=True)


def _wait_for_dockerd(log):
    def answers():
        return subprocess.run(["docker", "version"], capture_output=True, check=False).returncode == 0

    try:
        wait_for(answers, "dockerd", 60)
    except AssertionError as error:
        raise AssertionError("{0}\n{1}".format(error, log.read_text()[-3000:])) from None


def _podman_settings(scratch):
    """Environment variables that lead to settings in ``scratch``; runc, because crun refuses hybrid hierarchies."""
    containers = scratch / "containers.conf"
    containers.write_text(
        """[containers]
default_ulimits = ["nofile={limit}", "nproc={limit}"]
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "file"
static_dir = "{scratch}/static"
tmp_dir = "{scratch}/tmp"
volume_path = "{scratch}/volumes"
[network]
network_config_dir = "{scratch}/networks"
""".format(limit=_ULIMIT, scratch=scratch)
    )
    storage = scratch / "storage.conf"
    storage.write_text('[storage]\ndriver = "overlay"\ngraphroot = "{0}/graph"\nrunroot = "{0}/run"\n'.format(scratch))
    return {"CONTAINERS_CONF": str(containers), "CONTAINERS_STORAGE_CONF": str(storage)}


@contextlib.contextmanager
def _environment(variables):
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _leave(directory):
    """Wait for the last processes that work in a directory (conmon's cleanup), undo the mounts, the innermost first."""
    wait_for(lambda: not _workers(directory), "the end of all that works in " + directory, 30)
    lines = Path("/proc/self/mounts").read_text().splitlines()
    places = [line.split()[1] for line in lines if line.split()[1].startswith(directory + "/")]
    for place in sorted(places, reverse=True):
        subprocess.run(["umount", "--lazy", place], check=False)


def _workers(directory):
    found = []
    for process in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if directory.encode() in process.read_bytes():
                found.append(process)
    return found


@contextlib.contextmanager
def _traces_removed():
    """Remove what was not there before: the engines' directories and cgroups, and the forwarding of packets."""
    traces = [Path(trace) for trace in _TRACES if not os.path.lexists(trace)]
    parents = [_CGROUPS / name for name in _CGROUP_PARENTS] + [
        hierarchy / name for hierarchy in _CGROUPS.iterdir() if hierarchy.is_dir() for name in _CGROUP_PARENTS
    ]
    absent = [parent for parent in parents if not parent.exists()]
    forwarding = _FORWARDING.read_text()
    try:
        yield
    finally:
        for cgroup in absent:
            _remove_cgroup(cgroup)
        for trace in traces:
            if trace.is_dir():
                shutil.rmtree(trace, ignore_errors=True)
            else:
                trace.unlink(missing_ok=True)
        _FORWARDING.write_text(forwarding)


def _remove_cgroup(path):
    """A cgroup and those below it; one that still has processes stays."""
    for directory, _below, _files in os.walk(path, topdown=False):
        with contextlib.suppress(OSError):
            os.rmdir(directory)

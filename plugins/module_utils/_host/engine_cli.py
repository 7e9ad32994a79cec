# Copyright (c) 2026 oom.forensics contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What engines answer through their own commands. Private to this collection.

No command is run that could start a daemon, or make or change an engine's store: each engine is asked only where
something shows that it already runs. None is waited for longer than ``SECONDS``.
"""

import os
import re
from typing import Any, Dict, Iterator, List, Optional, Sequence, Tuple

from . import engine_rows as rows
from . import run

SECONDS = 20
_LARGEST = 16 * 1024 * 1024
_MOST = 5000


class RefusedError(Exception):
    """An engine that is there did not answer: a sentence, and what to do."""

    def __init__(self, message: str, advice: Optional[str] = None) -> None:
        super().__init__(message)
        self.advice = advice


# --- docker ----------------------------------------------------------------------------------------------------------

_DOCKER_SOCKETS = ("/run/docker.sock", "/var/run/docker.sock")
# Two calls: `docker ps` prints labels as one comma-separated text, in which a label's own commas and equal signs are
# lost, and its {{json .}} makes the daemon measure every container's disk usage. `docker inspect` has all of them,
# and the template picks the fields, so that no environment variable leaves the daemon's client.
_DOCKER_FIELDS = (".Id", ".Name", ".Config.Image", ".State.Running", ".Config.Labels")
_DOCKER_TEMPLATE = "[{0}]".format(",".join("{{{{json {0}}}}}".format(field) for field in _DOCKER_FIELDS))


def docker(host: run.Host) -> Optional[List[rows.Row]]:
    """Every container of the Docker daemon of this host; None without one. Raises RefusedError."""
    daemon = docker_daemon(host)
    if daemon is None:
        return None
    asked, uid = daemon
    listed = _ask(host, asked + ["ps", "--all", "--quiet", "--no-trunc"])
    identifiers = listed.decode("ascii", "replace").split()[:_MOST]
    if not identifiers:
        return []
    argv = asked + ["inspect", "--type", "container", "--format", _DOCKER_TEMPLATE] + identifiers
    # A container that is removed between the two calls makes the second one fail, behind all its other answers.
    said = _ask(host, argv, forgiven="No such")
    found = (_docker_row(rows.parsed(line), uid) for line in said.splitlines())
    return [each for each in found if each]


def docker_daemon(host: run.Host) -> Optional[Tuple[List[str], Optional[int]]]:
    """The command that asks the Docker daemon of this host, and the user whose it is; None without one."""
    program, socket = host.which("docker"), _docker_socket(host)
    if program is None or socket is None:
        return None
    return [program, "--host", "unix://" + socket], _owner(host, socket)


def _docker_row(values: Any, uid: Optional[int]) -> Optional[rows.Row]:
    if not isinstance(values, list) or len(values) != len(_DOCKER_FIELDS):
        return None
    identifier, name, image, running, labels = values
    name = rows.bare(name)
    return rows.row("docker", identifier, "engine", uid, name=name, image=image, running=running, labels=labels)


def _owner(host: run.Host, socket: str) -> Optional[int]:
    """The user whose daemon listens there. Only root can put a socket in the places of the host's own daemon."""
    if socket in _DOCKER_SOCKETS:
        return None
    try:
        return os.stat(run.below(host, socket)).st_uid or None
    except OSError:
        return None


def _docker_socket(host: run.Host) -> Optional[str]:
    """The socket of a running Docker daemon.

    A socket alone proves nothing: systemd listens there and would start the daemon; Podman may stand behind it.
    """
    given = os.environ.get("DOCKER_HOST", "")
    if given:
        return given[7:] if given.startswith("unix://") else None
    there = (path for path in _DOCKER_SOCKETS if os.path.exists(run.below(host, path)))
    socket = next(there, None)
    if socket is None or "podman" in os.path.basename(os.path.realpath(run.below(host, socket))):
        return None
    return socket if _process(host, "dockerd") else None


def _process(host: run.Host, name: str) -> bool:
    return any(
        run.read_text(host, "/proc/{0}/comm".format(each)) == name
        for each in run.names(host, "/proc")
        if each.isdigit()
    )


# --- podman ----------------------------------------------------------------------------------------------------------

_PODMAN_SETTINGS = ("/etc/containers/containers.conf", "/usr/share/containers/containers.conf")
_PODMAN_TMP = re.compile(r'(?m)^\s*tmp_dir\s*=\s*"(/[^"\n]{1,1024})"')


def podman(host: run.Host) -> Optional[List[rows.Row]]:
    """Every container of this user's Podman; None where Podman did not run since the boot. Raises RefusedError."""
    asked = podman_command(host)
    if asked is None:
        return None
    # Without --pod the field PodName is empty (4.3).
    said = rows.parsed(_ask(host, asked + ["ps", "--all", "--no-trunc", "--pod", "--format", "json"]))
    return [each for each in map(_podman_row, rows.dicts(said)[:_MOST]) if each]


def podman_command(host: run.Host) -> Optional[List[str]]:
    """The command of this user's Podman; None where Podman did not run since the boot."""
    program = host.which("podman")
    return [program] if program is not None and _podman_ran(host) else None


def _podman_row(said: Dict[str, Any]) -> Optional[rows.Row]:
    names = said.get("Names")
    return rows.row(
        "podman",
        said.get("Id"),
        "engine",
        os.geteuid() or None,
        name=names[0] if isinstance(names, list) and names else names,
        image=said.get("Image"),
        labels=said.get("Labels") or {},
        pod_uid=said.get("Pod"),
        pod_name=said.get("PodName"),
        running=said.get("State") in ("running", "paused", "stopping"),
    )


def _podman_ran(host: run.Host) -> bool:
    """Whether Podman has run since the boot: it then left the file ``alive``.

    Without that file even `podman ps` writes: it makes the store, or takes it that the machine was rebooted and
    marks every container as not running (observed with 4.3).
    """
    given = [os.environ.get("CONTAINERS_CONF") or ""] if run.live(host) else []
    settings = [run.read_text(host, path) or "" for path in given + list(_PODMAN_SETTINGS)]
    places = [place for text in settings for place in _PODMAN_TMP.findall(text)] + [_podman_tmp()]
    return any(os.path.exists(run.below(host, place + "/alive")) for place in places)


def _podman_tmp() -> str:
    user = os.geteuid()
    runtime = os.environ.get("XDG_RUNTIME_DIR") or "/run/user/{0}".format(user)
    return runtime + "/libpod/tmp" if user else "/run/libpod"


# --- crictl ----------------------------------------------------------------------------------------------------------

_RUNTIMES = {
    "containerd": ("/run/containerd/containerd.sock", "/run/k3s/containerd/containerd.sock"),
    "cri-o": ("/run/crio/crio.sock", "/var/run/crio/crio.sock"),
}


def containerd(host: run.Host) -> Optional[List[rows.Row]]:
    """Every container and pod that containerd keeps for kubelet; None without crictl. Raises RefusedError."""
    return _crictl(host, "containerd")


def crio(host: run.Host) -> Optional[List[rows.Row]]:
    """Every container and pod of CRI-O; None without crictl. Raises RefusedError."""
    return _crictl(host, "cri-o")


def _crictl(host: run.Host, engine: str) -> Optional[List[rows.Row]]:
    program = host.which("crictl")
    there = (path for path in _RUNTIMES[engine] if os.path.exists(run.below(host, path)))
    socket = next(there, None)
    if program is None or socket is None:
        return None
    # Named, because crictl would try every runtime that it knows, one timeout after the other.
    asked = [program, "--runtime-endpoint", "unix://" + socket]
    sandboxes = rows.parsed(_ask(host, asked + ["pods", "--output", "json"]))
    containers = rows.parsed(_ask(host, asked + ["ps", "--all", "--output", "json"]))
    found: List[rows.Row] = []
    for said in rows.dicts(rows.field(sandboxes, "items"))[:_MOST]:
        found.extend(_sandbox_rows(engine, said))
    by_sandbox = {each["id"]: each for each in found}
    for said in rows.dicts(rows.field(containers, "containers"))[:_MOST]:
        made = _cri_row(engine, said, by_sandbox)
        if made:
            found.append(made)
    return found


def _sandbox_rows(engine: str, said: Dict[str, Any]) -> Iterator[rows.Row]:
    """A pod, and the container that holds its namespaces, whose name kubelet writes as POD."""
    about = {
        "pod_uid": rows.field(said, "metadata", "uid"),
        "pod_name": rows.field(said, "metadata", "name"),
        "namespace": rows.field(said, "metadata", "namespace"),
        "labels": said.get("labels"),
        "running": said.get("state") == "SANDBOX_READY",
    }
    keys: Tuple[Tuple[Any, Optional[str]], ...] = ((said.get("id"), "POD"), (about["pod_uid"], None))
    for identifier, container in keys:
        made = rows.row(engine, identifier, "engine", name=about["pod_name"], container_name=container, **about)
        if made:
            yield made


def _cri_row(engine: str, said: Dict[str, Any], sandboxes: Dict[str, rows.Row]) -> Optional[rows.Row]:
    name = rows.field(said, "metadata", "name")
    made = rows.row(
        engine,
        said.get("id"),
        "engine",
        name=name,
        container_name=name,
        image=_image(said),
        labels=said.get("labels"),
        running=said.get("state") == "CONTAINER_RUNNING",
    )
    pod = sandboxes.get(str(said.get("podSandboxId")))
    if made and pod:
        made.update((key, pod[key]) for key in ("pod_uid", "pod_name", "namespace") if made[key] is None)
    return made


def _image(said: Dict[str, Any]) -> Any:
    """The image as the pod names it; where the runtime gives a digest instead, that."""
    given = (
        rows.field(said, "image", "userSpecifiedImage"),  # Kubernetes 1.28 and newer
        rows.field(said, "image", "image"),
        said.get("imageRef"),
    )
    return next((each for each in given if each), None)


# --- asking ----------------------------------------------------------------------------------------------------------

_ADVICE = (
    ("ermission denied", "Read as root (become: true); without it only containers of this user have names."),
    ("onnect to the Docker daemon", "Look at the daemon's log; until it answers, names come from its files."),
    ("unknown service runtime", "Nothing to do where kubelet does not use this runtime; else enable its CRI plugin."),
)
_HANGS = "Look why the daemon hangs; until it answers, names come from its files."


def _ask(host: run.Host, argv: Sequence[str], forgiven: str = "") -> bytes:
    """What a command prints. Raises RefusedError if it fails, says too much, or takes too long."""
    running = run.hurried(host, SECONDS).stream(argv)
    said, size = [], 0
    try:
        for chunk in running.chunks:
            said.append(chunk)
            size += len(chunk)
            if size > _LARGEST:
                raise RefusedError("{0} printed more than {1} bytes.".format(called(argv), _LARGEST))
    except run.OverdueError:
        raise RefusedError("{0} gave no answer within {1} seconds.".format(called(argv), SECONDS), _HANGS) from None
    finally:
        ended = running.end()
    if ended.status and not (forgiven and forgiven in ended.stderr):
        advice = next((advice for words, advice in _ADVICE if words in ended.stderr), None)
        raise RefusedError("{0} failed: {1}.".format(called(argv), run.complaint(ended)), advice)
    return b"".join(said)


def called(argv: Sequence[str]) -> str:
    """The command for people: its name and its verb."""
    verb = next((word for word in argv[1:] if not word.startswith("-") and "/" not in word), "")
    return "`{0}`".format(" ".join([os.path.basename(argv[0]), verb]).strip())

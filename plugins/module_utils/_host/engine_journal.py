# Copyright (c) 2026 oom.forensics contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the journal still tells of containers that no engine knows any more. Private to this collection.

Three places, in the order of what they cost and tell: Podman's events (``events_logger = journald``, its default),
the output of containers whose log driver is journald (Docker, Podman), and what kubelet, containerd and CRI-O log
when they create, start or remove a container. The first two are matched by field, which the journal has an index for;
the last is a search of bounded time in those daemons' records alone.

Whoever may write to the journal may write any of these names. Whose process it was says journald itself, in _UID:
only records of the user whose container it is are asked for.
"""

import re
import time
from typing import Any, Callable, Dict, Iterable, Iterator, List, NamedTuple, Optional, Sequence

from . import engine_rows as rows
from . import run

SECONDS = 10
_MOST = 50
_LONGEST_OUTPUT = 8 * 1024 * 1024
_LONGEST_MESSAGE = 4096
_KEY = re.compile(r"(?:(?P<uid>[1-9][0-9]{0,9}):)?(?P<id>[0-9a-f]{12}(?:[0-9a-f]{52})?)")
_WHOLE_ID = re.compile(r"[0-9a-f]{64}")


class _Call(NamedTuple):
    """journalctl in one place, until a moment of the monotonic clock, for records of one user's processes."""

    host: run.Host
    place: List[str]
    deadline: float
    uid: Optional[int] = None

    @property
    def match(self) -> str:
        """The user as journald writes it."""
        return "_UID={0}".format(self.uid or 0)


def look(host: run.Host, keys: Iterable[str], directory: Optional[str] = None) -> Dict[str, rows.Row]:
    """Rows of the keys (see ``engine_rows.key``) that the journal knows; of 50 at most, in 10 seconds at most.

    Those of the host's own engines come first, so that no user can use up what there is with containers of his.
    """
    wanted = _by_owner(keys)
    found: Dict[str, rows.Row] = {}
    call = _Call(host, _place(host, directory), time.monotonic() + SECONDS)
    for uid, ids in wanted.items():
        rows.merge(found, _of_owner(call._replace(uid=uid), ids).values())
    rows.merge(found, rows.pods(list(found.values())))
    return found


def _by_owner(keys: Iterable[str]) -> Dict[Optional[int], List[str]]:
    matches = [match for match in map(_KEY.fullmatch, dict.fromkeys(keys)) if match]
    wanted: Dict[Optional[int], List[str]] = {}
    for match in sorted(matches, key=lambda each: each.group("uid") is not None)[:_MOST]:
        uid = match.group("uid")
        wanted.setdefault(None if uid is None else int(uid), []).append(match.group("id"))
    return wanted


def _of_owner(call: _Call, ids: Sequence[str]) -> Dict[str, rows.Row]:
    found: Dict[str, rows.Row] = {}
    for source in _SOURCES:
        missing = [each for each in ids if not any(there["id"].startswith(each) for there in found.values())]
        if missing:
            rows.merge(found, source(call, missing))
    return found


def _place(host: run.Host, directory: Optional[str]) -> List[str]:
    if directory:
        return ["--directory=" + run.below(host, directory)]
    return [] if run.live(host) else ["--root=" + host.root]


# --- Podman's events: libpod/events/journald.go ----------------------------------------------------------------------

_EVENT_FIELDS = ("PODMAN_ID", "PODMAN_NAME", "PODMAN_IMAGE", "PODMAN_LABELS", "PODMAN_POD_ID")
# A container has few of these, and hundreds of thousands of health checks.
_EVENTS = ["PODMAN_EVENT=" + event for event in ("create", "died", "remove")]
_EVENTS_READ = 1000


def _events(call: _Call, ids: Sequence[str]) -> Iterator[Optional[rows.Row]]:
    """Containers; a pod in which one of them was has its own event, and so a name, only if it is asked for."""
    entries = _entries(call, _EVENT_FIELDS, ids, _EVENTS, "PODMAN_ID", _EVENTS_READ)
    made = [_event_row(entry, call.uid) for entry in entries]
    found = [each for each in made if each]
    pods = sorted({each["pod_uid"] for each in found if each["pod_uid"]})[:_MOST]
    named: Dict[str, Any] = {}
    if pods:
        for entry in _entries(call, _EVENT_FIELDS, pods, _EVENTS, "PODMAN_ID", _EVENTS_READ):
            named[str(entry.get("PODMAN_ID"))] = entry.get("PODMAN_NAME")
    for each in found:
        each["pod_name"] = rows.text(named.get(str(each["pod_uid"])))
    yield from found


def _event_row(entry: Dict[str, Any], uid: Optional[int]) -> Optional[rows.Row]:
    labels = entry.get("PODMAN_LABELS")
    return rows.row(
        "podman",
        entry.get("PODMAN_ID"),
        "journal",
        uid,
        name=entry.get("PODMAN_NAME"),
        image=entry.get("PODMAN_IMAGE"),
        labels=rows.parsed(labels.encode("utf-8", "replace")) if isinstance(labels, str) else None,
        pod_uid=entry.get("PODMAN_POD_ID"),
        running=False,
    )


# --- Output of containers: docker's daemon/logger/journald, conmon's src/ctr_logging.c -------------------------------

_OUTPUT_FIELDS = ("CONTAINER_ID_FULL", "CONTAINER_NAME", "IMAGE_NAME")
_IDS_READ = 4 * 1024 * 1024


def _output(call: _Call, ids: Sequence[str]) -> Iterator[Optional[rows.Row]]:
    """The newest line of each. One call each, since the first container of a common one may have written millions."""
    known = _lines(call, ["--field=CONTAINER_ID_FULL"], _IDS_READ)
    matching = [full.decode("ascii", "replace") for full in known]
    whole = [full for full in matching if _WHOLE_ID.fullmatch(full)]
    for identifier in [full for full in whole if any(full.startswith(each) for each in ids)]:
        for entry in _entries(call, _OUTPUT_FIELDS, [identifier], [], "CONTAINER_ID_FULL", 1):
            yield rows.row(
                None,  # both engines write these fields
                entry.get("CONTAINER_ID_FULL"),
                "journal",
                call.uid,
                name=entry.get("CONTAINER_NAME"),
                image=entry.get("IMAGE_NAME"),
                running=False,
            )


# --- Messages of daemons ---------------------------------------------------------------------------------------------

_DAEMONS = (
    "kubelet",
    "containerd",
    "crio",
    "k3s",
    "rke2",
    "microk8s.daemon-containerd",
    "microk8s.daemon-kubelite",
)
_MESSAGES_READ = 500
_PART = r"[^/_\s\"\\]{1,253}"
_UID = r"(?P<pod_uid>[0-9a-f-]{32,36})"
_CID = r"(?P<id>[0-9a-f]{64})"
_MESSAGES = tuple(
    (engine, re.compile(pattern))
    for engine, pattern in (
        # kubelet.go: syncLoopIteration, 1.20 and newer (a struct until 1.25, then JSON)
        (
            None,
            r'SyncLoop \(PLEG\): event for pod" pod="(?P<namespace>{0})/(?P<pod_name>{0})" '.format(_PART)
            + r'event=&?\{"?ID"?:"?'
            + _UID
            + r'"?[ ,]"?Type"?:"?\w{1,40}"?[ ,]"?Data"?:"?'
            + _CID,
        ),
        # until 1.19
        (
            None,
            r'SyncLoop \(PLEG\): "(?P<pod_name>{0})_(?P<namespace>{0})\([0-9a-f-]{{32,36}}\)", '.format(_PART)
            + r'event: &pleg\.PodLifecycleEvent\{ID:"'
            + _UID
            + r'", Type:"\w{1,40}", Data:"'
            + _CID,
        ),
        # CRI-O: server/container_create.go, container_remove.go
        (
            "cri-o",
            r"(?:Created|Removed) container "
            + _CID
            + r": (?P<namespace>{0})/(?P<pod_name>{0})/(?P<container_name>{0})".format(_PART),
        ),
        # containerd: a Go struct until 1.7, then the protobuf text; the quotes are escaped by logfmt
        (
            "containerd",
            r'CreateContainer within sandbox .{1,80} for (?:&ContainerMetadata\{Name:|name:\\*")'
            r'(?P<container_name>[^,\s"\\]{1,253}).{1,60}returns container id \\*"' + _CID,
        ),
        (
            "containerd",
            r'RunPodSandbox for (?:&PodSandboxMetadata\{Name:|name:\\*")(?P<pod_name>[^,\s"\\]{1,253})'
            r'(?:,|\\*" +)[Uu]id:(?:\\*")?' + _UID + r'(?:,|\\*" +)[Nn]amespace:(?:\\*")?(?P<namespace>[^,\s"\\]{1,63})'
            r'.{1,60}returns sandbox id \\*"' + _CID,
        ),
    )
)


def _daemons(call: _Call, ids: Sequence[str]) -> Iterator[Optional[rows.Row]]:
    """Of several records about one container each adds what it knows: kubelet's the pod, containerd's the name."""
    arguments = ["--output=cat", "--lines={0}".format(_MESSAGES_READ), "--grep=" + "|".join(ids)]
    arguments += [call.match] + ["SYSLOG_IDENTIFIER=" + name for name in _DAEMONS]
    for line in _lines(call, arguments, _LONGEST_OUTPUT):
        message = line[:_LONGEST_MESSAGE].decode("utf-8", "replace")
        for engine, pattern in _MESSAGES:
            match = pattern.search(message)
            if match and match.group("id").startswith(tuple(ids)):
                about = match.groupdict()
                name = about.get("container_name")
                yield rows.row(engine, about.pop("id"), "journal", call.uid, name=name, running=False, **about)


_SOURCES: Sequence[Callable[[_Call, Sequence[str]], Iterator[Optional[rows.Row]]]] = (_events, _output, _daemons)


# --- journalctl ------------------------------------------------------------------------------------------------------


def _entries(
    call: _Call, fields: Sequence[str], ids: Sequence[str], matches: Sequence[str], name: str, most: int
) -> Iterator[Dict[str, Any]]:
    """The user's newest records in which the field ``name`` is one of the ids, with these fields alone."""
    arguments = ["--output=json", "--output-fields=" + ",".join(fields), "--lines={0}".format(most)]
    arguments += [call.match] + ["{0}={1}".format(name, each) for each in ids] + list(matches)
    for line in _lines(call, arguments, _LONGEST_OUTPUT):
        entry = rows.parsed(line)
        if isinstance(entry, dict):
            yield entry


def _lines(call: _Call, arguments: Sequence[str], most: int) -> List[bytes]:
    """The whole lines that journalctl prints, until it ends, the time is up, or there are too many bytes of them."""
    left = call.deadline - time.monotonic()
    if left <= 0:
        return []
    argv = [call.host.which("journalctl") or "journalctl", "--no-pager", "--quiet"] + call.place + list(arguments)
    running = run.hurried(call.host, left).stream(argv)
    read: List[bytes] = []
    size = 0
    try:
        for chunk in running.chunks:
            read.append(chunk)
            size += len(chunk)
            if size > most:
                break
    except run.OverdueError:
        pass  # what was printed until now is as true as what is missing
    finally:
        running.end()
    lines = b"".join(read).split(b"\n")
    return [line for line in lines[:-1] if line]

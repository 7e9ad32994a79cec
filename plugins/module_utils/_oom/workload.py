# Copyright (c) 2026 oom.forensics contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Attribution: which container, pod, unit, machine or job a cgroup path belongs to. Pure: a path in, a dict out.

The path is scanned from the right, one component at a time; the first component that a row of ``_ROWS`` knows is the
workload. Whatever stands to its left is context: the pod of the container, the slice and uid of the unit, the
container around a nested unit. So a prefix that a host, kind, k3s or an outer container puts before it never matters.

Kinds:

=========  ============================================================================================
container  a container; engine is docker, podman, containerd, cri-o, lxc, nspawn, or null where the path
           does not tell (``/<parent>/<id>`` is Docker's ``--cgroup-parent`` as well as containerd's ``ctr``)
pod        the cgroup around a group of containers: engine kubernetes, podman (pod) or ecs (task)
machine    a virtual machine, engine libvirt
job        a batch job or allocation, engine slurm or nomad
unit       a systemd unit that is none of the following
session    a login session's scope
scope      any other systemd scope, a container's monitor (conmon) included: then engine and id name the container
slice      a systemd slice
root       the root of the hierarchy
cgroup     anything else; name is the path
=========  ============================================================================================

A unit, scope, session or slice inside a container carries that container in ``engine``, ``id`` and ``name``.
"""

import functools
import re
from typing import Any, Dict, List, NamedTuple, Optional, Pattern, Tuple

KEYS = (
    "kind",
    "engine",
    "id",
    "name",
    "image",
    "labels",
    "compose_project",
    "compose_service",
    "pod_uid",
    "pod_name",
    "namespace",
    "container_name",
    "qos",
    "unit",
    "slice",
    "uid",
    "name_source",
)

# The kernel's own bounds: 255 bytes a name (four characters each where a transport escaped it), PATH_MAX for a path.
_LONGEST_COMPONENT = 1020
_LONGEST_CACHED = 4096

# What a runtime calls itself in a scope's name -> the engine.
_ENGINES = {
    "cri-containerd": "containerd",
    "crio": "cri-o",
    "docker": "docker",
    "libpod": "podman",
    "nerdctl": "containerd",
}
# Who starts the containers of a pod, where their own path does not say it.
_ENGINE_IN_POD = {"ecs": "docker"}
_SYSTEMD_KINDS = ("unit", "scope", "session", "slice")
_UNIT_SUFFIXES = (".service", ".scope", ".mount", ".socket", ".swap")

_CID = "(?P<id>[0-9a-f]{12,64})"
_RUNTIME = "(?P<runtime>cri-containerd|crio|docker|libpod|nerdctl)"
_QOS = "(?P<qos>burstable|besteffort)"
# A static pod's uid is a digest: 32 hex digits without separators.
_POD_UID = "(?P<pod_uid>[0-9a-f]{32}|[0-9a-f]{8}(?:[-_][0-9a-f]{4}){3}[-_][0-9a-f]{12})"
_UUID = "[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
# "-" as systemd writes it inside a unit name; a reader of /dev/kmsg that does not decode shows its backslash as \x5c.
_DASH = r"\\x(?:5cx)?2d"
# kubelet --cgroup-root puts its own name before "kubepods".
_KUBEPODS = "(?:.+-)?kubepods"


class _Row(NamedTuple):
    """One runtime's way to name a cgroup. Named groups of both patterns fill the keys of their names."""

    name: str
    kind: str
    engine: Optional[str]
    component: Pattern[str]
    parent: Optional[Pattern[str]]
    fixed: Tuple[Tuple[str, str], ...]


class _Match(NamedTuple):
    position: int
    row: _Row
    fields: Dict[str, Any]


def _row(
    name: str,
    kind: str,
    engine: Optional[str],
    component: str,
    parent: Optional[str] = None,
    fixed: Tuple[Tuple[str, str], ...] = (),
) -> _Row:
    compiled = re.compile(parent, re.DOTALL) if parent else None
    return _Row(name, kind, engine, re.compile(component, re.DOTALL), compiled, fixed)


_GUARANTEED = (("qos", "guaranteed"),)

# The first row that matches a component wins: special names before general ones.
_ROWS = (
    # Monitors: processes of the host, not of the container.
    _row("conmon", "scope", None, "(?P<runtime>crio|libpod)-conmon-" + _CID + r"(?:\.scope)?"),
    _row("lxc monitor", "cgroup", "lxc", r"lxc\.monitor\.(?P<name>.+)"),
    _row("nspawn supervisor", "unit", "nspawn", "supervisor", r"systemd-nspawn@(?P<name>.+)\.service"),
    _row("machined supervisor", "scope", "nspawn", "supervisor", r"machine-(?P<name>.+)\.scope"),
    # Containers
    _row("container scope", "container", None, _RUNTIME + "-" + _CID + r"\.scope"),
    _row("cri-o, cgroupfs", "container", "cri-o", "crio-" + _CID),
    _row("podman, cgroupfs", "container", "podman", "libpod-(?:payload-)?" + _CID),
    _row("docker, cgroupfs", "container", "docker", _CID, "docker"),
    _row(
        "kubelet and runtime with different drivers, guaranteed",
        "container",
        None,
        _KUBEPODS + "-pod" + _POD_UID + r"\.slice:" + _RUNTIME + ":" + _CID,
        None,
        _GUARANTEED,
    ),
    _row(
        "kubelet and runtime with different drivers",
        "container",
        None,
        _KUBEPODS + "-" + _QOS + "-pod" + _POD_UID + r"\.slice:" + _RUNTIME + ":" + _CID,
    ),
    _row("other slice and cgroupfs", "container", None, r".+\.slice:" + _RUNTIME + ":" + _CID),
    _row("kubelet, cgroupfs", "container", None, _CID, "pod(?:[0-9a-f]{32}|" + _UUID + ")"),
    _row("containerd without CRI", "container", "containerd", _CID, r"default|k8s\.io"),
    _row("docker --cgroup-parent, ctr", "container", None, "(?P<id>[0-9a-f]{64})"),
    # Pods
    _row("kubelet pod, systemd", "pod", "kubernetes", _KUBEPODS + "-" + _QOS + "-pod" + _POD_UID + r"\.slice"),
    _row(
        "kubelet guaranteed pod, systemd",
        "pod",
        "kubernetes",
        _KUBEPODS + "-pod" + _POD_UID + r"\.slice",
        None,
        _GUARANTEED,
    ),
    _row("kubelet pod, cgroupfs", "pod", "kubernetes", "pod" + _POD_UID, _QOS),
    _row("kubelet guaranteed pod, cgroupfs", "pod", "kubernetes", "pod" + _POD_UID, _KUBEPODS, _GUARANTEED),
    _row("kubelet pod without QoS levels", "pod", "kubernetes", "pod" + _POD_UID),
    _row(
        "podman pod",
        "pod",
        "podman",
        r"(?:[a-z]+-)?libpod_pod_(?P<pod_uid>[0-9a-f]{12,64})(?:\.slice)?",
    ),
    _row("ecs task, v1", "pod", "ecs", "(?P<pod_uid>[0-9a-f]{32}|" + _UUID + ")", "ecs"),
    _row("ecs task, v2", "pod", "ecs", r"ecstasks-(?P<pod_uid>[0-9a-f]{32}|" + _UUID + r")\.slice"),
    # Jobs
    _row("nomad", "job", "nomad", "(?P<id>" + _UUID + r")\.(?P<name>.+?)(?:\.scope)?"),
    _row("slurm step", "job", "slurm", "(?P<name>step_.+)", "job_(?P<id>[0-9]{1,20})"),
    _row("slurm job, v1", "job", "slurm", "job_(?P<id>[0-9]{1,20})", "uid_[0-9]{1,10}"),
    _row("slurm job, v2", "job", "slurm", "job_(?P<id>[0-9]{1,20})", r"(?:.+_)?slurmstepd\.scope"),
    # Machines: virtual ones first, they use machined's names too.
    _row(
        "libvirt, systemd",
        "machine",
        "libvirt",
        "machine-(?:qemu|lxc)" + _DASH + "(?P<id>[0-9]{1,20})" + _DASH + r"(?P<name>.+)\.scope",
    ),
    _row(
        "libvirt, cgroupfs",
        "machine",
        "libvirt",
        r"(?:(?:qemu|lxc)-(?P<id>[0-9]{1,20})-)?(?P<name>.+)\.libvirt-(?:qemu|lxc)",
    ),
    _row("nspawn, machined", "container", "nspawn", r"machine-(?P<name>.+)\.scope"),
    _row("nspawn, service", "container", "nspawn", r"systemd-nspawn@(?P<name>.+)\.service"),
    _row("lxc 4", "container", "lxc", r"lxc\.payload\.(?P<name>.+)"),
    _row("lxc, own pattern", "container", "lxc", "payload", r"(?P<name>.+)(?<!\.service)(?<!\.scope)(?<!\.slice)"),
    _row("lxc, old", "container", "lxc", "(?P<name>.+)", r"lxc(?:\.payload)?"),
    # systemd
    _row("kubelet QoS level, systemd", "slice", "kubernetes", _KUBEPODS + "-" + _QOS + r"\.slice"),
    _row("kubelet QoS level, cgroupfs", "cgroup", "kubernetes", _QOS, _KUBEPODS),
    _row("login session", "session", None, r"session-.+\.scope"),
    _row("scope", "scope", None, r".+\.scope"),
    _row("unit", "unit", None, r".+\.(?:service|mount|socket|swap)"),
    _row("slice", "slice", None, r".+\.slice|-\.slice"),
)

_UID = re.compile(
    r"(?:user-(?=[0-9]+\.slice)|user@(?=[0-9]+\.service)|uid_(?=[0-9]+$))([0-9]{1,10})(?:\.slice|\.service)?"
)
# Control characters stay escaped: nothing shows them and some databases refuse them.
_ESCAPED = re.compile(r"(?:\\x(?:5cx)?[2-9a-f][0-9a-f])+")


def _decode_run(match: "re.Match[str]") -> str:
    digits = match.group().replace("\\x5cx", "\\x").replace("\\x", "")
    return bytes(bytearray.fromhex(digits)).decode("utf-8", "backslashreplace")


def _unescape(name: str) -> str:
    """Decode the ``\\xNN`` of systemd's unit names (unit_name_escape: every byte but ``[0-9A-Za-z:_.]``)."""
    return _ESCAPED.sub(_decode_run, name)


def _fields(row: _Row, groups: Dict[str, Optional[str]]) -> Dict[str, Any]:
    """What one matched row says, as keys of the workload."""
    fields = dict(row.fixed)  # type: Dict[str, Any]
    fields.update((key, value) for key, value in groups.items() if value is not None)
    fields["engine"] = _ENGINES.get(fields.pop("runtime", ""), row.engine)
    if "name" in fields:
        fields["name"] = _unescape(fields["name"])
    if "pod_uid" in fields:
        fields["pod_uid"] = fields["pod_uid"].replace("_", "-")
    return fields


def _match(components: List[str], index: int) -> Optional[_Match]:
    """The first row that knows the component at ``index`` below its parent."""
    component = components[index]
    if len(component) > _LONGEST_COMPONENT:
        return None
    found = _recognised(component, components[index - 1][:_LONGEST_COMPONENT] if index else "")
    return _Match(index, *found) if found else None


@functools.lru_cache(maxsize=1024)  # the paths of a tree share their beginnings
def _recognised(component: str, parent: str) -> Optional[Tuple[_Row, Dict[str, Any]]]:
    for row in _ROWS:
        found = row.component.fullmatch(component)
        if not found:
            continue
        groups = found.groupdict()
        if row.parent:
            above = row.parent.fullmatch(parent)
            if not above:
                continue
            groups.update(above.groupdict())
        return row, _fields(row, groups)
    return None


def _matches(components: List[str]) -> List[_Match]:
    """Every component that a row knows, the rightmost first."""
    found = (_match(components, index) for index in range(len(components) - 1, -1, -1))
    return [match for match in found if match]


def _nearest(components: List[str], first: int, last: int, suffixes: Tuple[str, ...]) -> Optional[str]:
    """The rightmost component in ``first..last`` that ends as one of ``suffixes``."""
    for index in range(last, first - 1, -1):
        if components[index].endswith(suffixes):
            return components[index]
    return None


def _owner_uid(components: List[str], last: int) -> Optional[int]:
    # From the left: below his own a user, and root in a container, may name cgroups after another.
    for component in components[: last + 1]:
        found = _UID.fullmatch(component)
        if found:
            return int(found.group(1))
    return None


def _systemd_names(components: List[str], primary: _Match, first: int) -> Dict[str, Optional[str]]:
    """Unit and slice at or around the workload, not looking past the container around it (at ``first - 1``)."""
    above = _nearest(components, first, primary.position, (".slice",))
    unit = (
        None if primary.row.kind in ("slice", "pod") else _nearest(components, first, primary.position, _UNIT_SUFFIXES)
    )
    return {"unit": unit, "slice": above}


def _describe(path: str) -> Dict[str, Any]:
    workload = dict.fromkeys(KEYS)  # type: Dict[str, Any]
    components = [part for part in path.split("/") if part not in ("", ".", "..")]
    if not components:
        workload["kind"] = "root"
        return workload
    matches = _matches(components)
    if not matches:
        workload.update(kind="cgroup", name=path, uid=_owner_uid(components, len(components) - 1))
        return workload
    primary = matches[0]
    # A monitor stands beside its container, whatever its row names; nothing is around it.
    monitor = primary.row.kind in _SYSTEMD_KINDS and primary.fields["engine"] is not None
    around = (match for match in matches[1:] if match.row.kind in ("container", "machine") and not monitor)
    outer = next(around, None)
    pod = next((match for match in matches if match.row.kind == "pod"), None)
    workload.update(_systemd_names(components, primary, outer.position + 1 if outer else 0))
    if pod:
        workload.update((key, pod.fields.get(key)) for key in ("pod_uid", "qos"))
    if outer and primary.row.kind in _SYSTEMD_KINDS:
        workload.update((key, outer.fields.get(key)) for key in ("engine", "id", "name"))
    workload.update((key, value) for key, value in primary.fields.items() if value is not None)
    workload["kind"] = primary.row.kind
    workload["uid"] = _owner_uid(components, outer.position if outer else primary.position)
    if pod and primary.row.kind == "container" and workload["engine"] is None:
        workload["engine"] = _ENGINE_IN_POD.get(pod.row.engine or "")
    if primary.row.kind == "cgroup" and workload["name"] is None:
        workload["name"] = path
    return workload


_describe_cached = functools.lru_cache(maxsize=512)(_describe)


def identify(cgroup: Optional[str]) -> Dict[str, Any]:
    """Name the workload of a cgroup.

    :arg cgroup: the host's absolute path below the hierarchy's mount, as the kernel logs it (``/docker/<id>``);
        null or empty when the report does not say.
    :returns: a dict with every key of ``KEYS``. ``uid`` is an int: the user whose slice, or job, it is. ``pod_uid``
        has dashes (a static pod's digest has none), for Podman and ECS it is the id of the pod or task. ``image``,
        ``labels``, ``compose_project``, ``compose_service``, ``pod_name``, ``namespace`` and ``container_name`` are
        never in a path: null here. ``_host/engines.py`` fills them and says in ``name_source`` from where.
        An LXD project stays a part of the name (``<project>_<name>``): LXC alone permits ``_`` in names too.

    Never raises, whatever the name. Time is linear in the length of the path.
    """
    if not cgroup:
        return dict.fromkeys(KEYS)
    if len(cgroup) > _LONGEST_CACHED:
        return _describe(cgroup)
    return dict(_describe_cached(cgroup))


def _short(identifier: Optional[str], length: int) -> str:
    return (identifier or "?")[:length]


def _engine_label(workload: Dict[str, Any]) -> str:
    """``docker 3193584578ea``; the name instead of the id where it is known."""
    return "{0} {1}".format(
        workload.get("engine") or workload.get("kind"), workload.get("name") or _short(workload.get("id"), 12)
    )


def _pod_label(workload: Dict[str, Any]) -> str:
    if workload.get("pod_name"):
        return "{0}/{1}".format(workload.get("namespace") or "?", workload["pod_name"])
    words = ["pod", workload.get("qos") or workload.get("engine"), _short(workload.get("pod_uid"), 8)]
    return " ".join(word for word in words if word)


def _container_label(workload: Dict[str, Any]) -> str:
    if not workload.get("qos"):
        return _engine_label(workload)
    return "{0}/{1}".format(_pod_label(workload), workload.get("container_name") or _short(workload.get("id"), 12))


def _job_label(workload: Dict[str, Any]) -> str:
    # A Nomad allocation's id is a UUID (nomad alloc status takes 8 digits of it), a Slurm job's a number.
    length = 8 if workload.get("engine") == "nomad" else 20
    words = [workload.get("engine"), _short(workload.get("id"), length), workload.get("name")]
    return " ".join(word for word in words if word)


def _unit_label(workload: Dict[str, Any]) -> str:
    unit = workload.get("unit") or workload.get("slice") or "?"
    identifier = workload.get("id")
    uid = workload.get("uid")
    if identifier and identifier in unit:
        return str(unit.replace(identifier, identifier[:12]))
    if workload.get("engine") and (identifier or workload.get("name")):
        return "{0} in {1}".format(unit, _engine_label(workload))
    return unit if uid is None or str(uid) in unit else "{0} uid {1}".format(unit, uid)


def _name_label(workload: Dict[str, Any]) -> str:
    return str(workload.get("name") or "?")


_LABELS = {
    "container": _container_label,
    "pod": _pod_label,
    "machine": _engine_label,
    "job": _job_label,
    "unit": _unit_label,
    "scope": _unit_label,
    "session": _unit_label,
    "slice": lambda workload: _unit_label(dict(workload, unit=None)),
    "root": lambda workload: "/",
    "cgroup": _name_label,
}


def label(workload: Dict[str, Any]) -> str:
    """A short name for people: ``docker 3193584578ea``, ``pod burstable d11ab7b0/0123456789ab``, ``sshd.service``.

    :arg workload: what ``identify`` returned. Names in it come from the host and are shown as they are.
    """
    return _LABELS.get(str(workload.get("kind")), lambda _workload: "unknown")(workload)

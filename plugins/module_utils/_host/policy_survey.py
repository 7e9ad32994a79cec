# Copyright (c) 2026 oom.forensics contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every workload of a host that a memory policy may be for, each with who keeps its settings. Private.

One pass over the cgroups. Docker, Podman and systemd take what is theirs; of what is left nobody is asked, and the
sentence with which a change of it is refused says who to ask.
"""

import pwd
import re
from typing import Any, Dict, Iterable, List, NamedTuple, Optional, Sequence, Set, Tuple

from .._oom.workload import label
from .._policy.model import SETTINGS, Ability, Survives, Target
from . import cgroupfs, engines, policy_docker, policy_kernel, policy_podman, policy_systemd, run
from .coverage import Unreadable

_NOBODY = "none"
_SYSTEMD = "systemd"
_CONTAINED = ("container", "machine")
_OF_SYSTEMD = ("unit", "scope", "session", "slice")
# Below a user's own manager; that manager itself is a unit of the host.
_BELOW_USER = re.compile(r"/user@([0-9]{1,10})\.service/")

_KUBELET = "kubelet sets its limits from the pod's spec; change the manifest."
_USER = "It belongs to user {uid}, whose own systemd or engine keeps its settings; set it there as that user."
# Who keeps the settings of what, by its engine, else by its kind.
_KEEPERS = {
    "kubernetes": _KUBELET,
    "cri-o": _KUBELET,
    "containerd": "containerd keeps its settings, and is not asked here; set them where it was made, as with nerdctl.",
    "ecs": "The agent of ECS sets its limits from the task definition; change that.",
    "lxc": "LXC keeps its settings; set them in the container's own configuration.",
    "libvirt": "libvirt keeps its settings; set them with virsh memtune.",
    "slurm": "Slurm sets its limits from what the job asks for; change that.",
    "nomad": "Nomad sets its limits from the job's specification; change that.",
    "podman": "Podman gives it no limit of its own once it is made; set the limits of the containers in it.",
    "container": "No engine that is asked here says that the container is its own, so nobody is known to change it.",
    None: "Nobody is known who keeps its settings, and to write them behind somebody's back would not last.",
}
# Those that an engine must be asked for the names of; without one of them no other engine is asked.
_NAMED = ("containerd", "cri-o", "kubernetes", "lxc", "libvirt")


class Survey(NamedTuple):
    """The targets, and a row for each manager: `manager available workloads error advice`."""

    targets: List[Target]
    managers: List[Dict[str, Any]]


def survey(host: run.Host, prefixes: Sequence[str], lasting: bool) -> Survey:
    """Look at everything that runs on the host.

    :arg prefixes: unit names of prefix drop-ins, each of which is a target without a cgroup.
    :arg lasting: whether changes of units are to outlive a restart of the host.

    Raises Unreadable where the cgroups cannot be read. A manager that gives no answer is a row with its error.
    """
    found, coverage = cgroupfs.read(host, with_stat=policy_kernel.RECLAIMABLE)
    cgroups = list(found)
    if coverage["error"]:
        raise Unreadable(coverage["error"], " ".join(coverage["advice"]) or None)
    docker, docker_row = policy_docker.targets(host, cgroups)
    podman, podman_row = policy_podman.targets(host, cgroups)
    services = [target for target in podman if target.manager == _SYSTEMD]
    targets = docker + [target for target in podman if target.manager != _SYSTEMD]
    rest = _without(_outside(cgroups), targets)
    units, systemd_row = policy_systemd.targets(host, [each for each in rest if _is_unit(each)], prefixes, lasting)
    named = {target.identity for target in units}
    targets += _with_containers(units, services)
    rest = _without(rest, targets + [target for target in services if target.identity in named])
    targets += _others(host, rest)
    targets.sort(key=lambda target: (target.path or "", target.identity))
    return Survey(targets, [docker_row, podman_row, systemd_row])


def _without(cgroups: Iterable[Dict[str, Any]], targets: Iterable[Target]) -> List[Dict[str, Any]]:
    taken = {target.path for target in targets}
    return [cgroup for cgroup in cgroups if cgroup["path"] not in taken]


def _with_containers(units: Iterable[Target], services: Iterable[Target]) -> List[Target]:
    """The units, and those that are a container's service with the names that Podman gave the container."""
    inside = {target.identity: target for target in services if not target.infrastructure}
    return [
        unit._replace(label=inside[unit.identity].label, workload=inside[unit.identity].workload)
        if unit.identity in inside
        else unit
        for unit in units
    ]


def uids(names: Iterable[str]) -> Dict[str, int]:
    """The uids of those of the user names that this host knows."""
    found = {}
    for name in names:
        try:
            found[name] = pwd.getpwnam(name).pw_uid
        except (KeyError, ValueError):  # unknown here; no name at all
            continue
    return found


def _outside(cgroups: Iterable[Dict[str, Any]]) -> List[Dict[str, Any]]:
    """Without the root, what is inside of containers and machines, and the monitors beside them."""
    contained: Set[str] = set()
    found = []
    for cgroup in cgroups:  # parents before their children
        workload, path = cgroup["workload"], cgroup["path"]
        parent = path.rpartition("/")[0]
        if parent in contained or workload["kind"] in _CONTAINED:
            contained.add(path)
        if parent not in contained and workload["kind"] != "root" and not _is_monitor(workload):
            found.append(cgroup)
    return found


def _is_monitor(workload: Dict[str, Any]) -> bool:
    """Whether it is a process of the host beside a container, such as conmon."""
    return workload["kind"] in ("unit", "scope", "cgroup") and workload["engine"] not in (None, "kubernetes")


def _is_unit(cgroup: Dict[str, Any]) -> bool:
    """Whether the host's own systemd keeps it. nspawn's containers are units of the host."""
    workload = cgroup["workload"]
    own = workload["kind"] in _OF_SYSTEMD and workload["engine"] is None
    nspawn = workload["kind"] == "container" and workload["engine"] == "nspawn"
    return (own or nspawn) and not _BELOW_USER.search(cgroup["path"])


def _others(host: run.Host, cgroups: Sequence[Dict[str, Any]]) -> List[Target]:
    names = _names(host, cgroups)
    return [_other(cgroup, engines.fill(cgroup["workload"], names)) for cgroup in cgroups]


def _names(host: run.Host, cgroups: Sequence[Dict[str, Any]]) -> Dict[str, Dict[str, Any]]:
    wanted = {cgroup["workload"]["engine"] for cgroup in cgroups}
    return engines.read(host, _NAMED).by_id if wanted.intersection(_NAMED) else {}


def _other(cgroup: Dict[str, Any], workload: Dict[str, Any]) -> Target:
    sentence = _keeper(cgroup["path"], workload)
    ability = Ability(sentence, False, None, Survives(None, None, None))
    return Target(
        manager=_NOBODY,
        identity=cgroup["path"],
        label=label(workload),
        workload=workload,
        path=cgroup["path"],
        unit=workload["unit"] if workload["kind"] in _OF_SYSTEMD else None,
        cgroup_version=cgroup["cgroup_version"],
        stored={},
        effective=policy_kernel.settings(cgroup),
        usage=policy_kernel.usage(cgroup),
        abilities=dict.fromkeys(SETTINGS, ability),
        critical=False,
        infrastructure=workload["container_name"] == "POD",
    )


def _keeper(path: str, workload: Dict[str, Any]) -> str:
    """Why nobody changes it from here, and who would."""
    if workload["uid"]:
        return _USER.format(uid=workload["uid"])
    if workload["qos"] or (workload["pod_uid"] and workload["engine"] in (None, "docker", "containerd", "cri-o")):
        return _KUBELET
    kind: Optional[str] = workload["kind"]
    keys: Tuple[Optional[str], ...] = (workload["engine"], kind, None)
    return next(_KEEPERS[key] for key in keys if key in _KEEPERS)

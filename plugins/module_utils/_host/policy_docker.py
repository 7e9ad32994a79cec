# Copyright (c) 2026 oom.forensics contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Docker as a keeper of memory settings. Private to this collection.

One `docker inspect` tells all containers, one `docker update` changes one: it keeps its id and its processes.
"""

import functools
from typing import Any, Dict, Iterable, List, Mapping, Optional, Sequence, Tuple

from .._policy.model import Ability, Survives, Target
from . import engine_cli, policy_containers, policy_kernel, run
from . import engine_rows as rows
from .policy_calls import ManagerError, call

# Chosen by name: no environment variable leaves the daemon's client.
_FIELDS = (
    ".Id",
    ".Name",
    ".Config.Image",
    ".Config.Labels",
    ".State.Pid",
    ".HostConfig.Memory",
    ".HostConfig.MemorySwap",
    ".HostConfig.MemoryReservation",
    ".HostConfig.OomScoreAdj",
    ".HostConfig.AutoRemove",
)
_NUMBERS = slice(4, 9)
_TEMPLATE = "[{0}]".format(",".join("{{{{json {0}}}}}".format(field) for field in _FIELDS))

# It is in the container's hostconfig.json: every start, by whomever, begins with it.
_UPDATE = Ability(
    None, True, "`docker update`", Survives(workload_restart=True, engine_restart=True, host_restart=True)
)
# With --rm it outlives `docker restart`, and is removed when the daemon starts (daemon/daemon.go, restore).
_UPDATE_OF_PASSING = _UPDATE._replace(
    survives=Survives(workload_restart=True, engine_restart=False, host_restart=False)
)
_LEAST = 6 * 1024 * 1024  # linuxMinMemory of daemon/daemon_unix.go, since 20.10

_SILENT = "No Docker daemon runs on this host, and containers of Docker do."
_START_IT = "Start the daemon, or name its socket in DOCKER_HOST; then run the policy again."
_STAYS = "Docker cannot take memory_low of {0} away, it has 6M now; all else is as it was."
_STRANGER = "The Docker daemon of this host does not know it; another daemon does, which DOCKER_HOST may name."
_ANOTHER_USERS = "It belongs to the Docker of another user; run the module as this user, with DOCKER_HOST set."


# --- seeing ----------------------------------------------------------------------------------------------------------


def targets(host: run.Host, cgroups: Iterable[Dict[str, Any]]) -> Tuple[List[Target], Dict[str, Any]]:
    """The running containers of Docker, and Docker's row of the coverage. Never raises.

    :arg cgroups: with the keys of ``cgroup_memory.KEYS`` and ``policy_kernel.RECLAIMABLE`` in their ``stat``, parents
        before their children. Those that are none of Docker's containers are left out.
    """
    found = policy_containers.containers(cgroups, ("docker", None))
    daemon = engine_cli.docker_daemon(host)
    uid = daemon[1] if daemon else None
    known: Dict[str, policy_containers.Known] = {}
    error = None
    if daemon:
        try:
            known = _known(host, daemon[0], [each for each in found if policy_containers.of_user(each, uid)])
        except ManagerError as problem:
            error = problem
    elif any(each["workload"]["engine"] == "docker" for each in found):
        error = ManagerError(_SILENT, _START_IT)
    made = (_target(host, each, known.get(each["workload"]["id"]), error, uid) for each in found)
    all_made = [each for each in made if each]
    return all_made, policy_containers.coverage("docker", daemon is not None and error is None, all_made, error)


def _known(host: run.Host, command: List[str], cgroups: List[Dict[str, Any]]) -> Dict[str, policy_containers.Known]:
    """What the daemon tells of the containers, by their ids. Raises ManagerError."""
    if not cgroups:
        return {}
    owners = policy_containers.owners(cgroups)
    argv = command + ["inspect", "--type", "container", "--format", _TEMPLATE] + list(owners)
    said = call(host, argv, forgiven="No such")
    answers = (_answer(rows.parsed(line), owners) for line in said.splitlines())
    return {each.row["id"]: each for each in answers if each}


def _answer(values: Any, owners: Mapping[str, Optional[int]]) -> Optional[policy_containers.Known]:
    if not isinstance(values, list) or len(values) != len(_FIELDS) or values[0] not in owners:
        return None
    identifier, name, image, labels = values[:4]
    numbers = (each if isinstance(each, int) else 0 for each in values[_NUMBERS])
    pid, memory, both, reservation, adjustment = numbers
    row = rows.row("docker", identifier, "engine", owners[identifier], name=rows.bare(name), image=image, labels=labels)
    if row is None:
        return None
    kept = ("--memory-reservation={0}".format(reservation),) if reservation else ()
    pause = row["container_name"] == "POD"
    return policy_containers.Known(row, pid, (memory, both, reservation), adjustment, pause, kept, values[9] is True)


def _target(
    host: run.Host,
    cgroup: Dict[str, Any],
    known: Optional[policy_containers.Known],
    error: Optional[ManagerError],
    uid: Optional[int],
) -> Optional[Target]:
    """A target; None for what is gone, and for a container that need not be Docker's."""
    if known:
        update = _UPDATE_OF_PASSING if known.passing else _UPDATE
        abilities = policy_containers.abilities("Docker", cgroup, update, policy_containers.scope_of(cgroup))
        found = policy_containers.target(host, "docker", cgroup, known, abilities)
        return policy_containers.of_kubelet(found) if known.row["pod_uid"] or _in_pod(cgroup) else found
    if cgroup["workload"]["engine"] != "docker":
        return None
    if not policy_containers.of_user(cgroup, uid):
        return policy_containers.unasked("none", cgroup, _ANOTHER_USERS)
    if error:
        return policy_containers.unasked("docker", cgroup, error.sentence)
    there = policy_kernel.read(host, cgroup["path"])
    return policy_containers.unasked("none", cgroup, _STRANGER) if there else None


def _in_pod(cgroup: Dict[str, Any]) -> bool:
    return cgroup["workload"]["qos"] is not None


# --- changing --------------------------------------------------------------------------------------------------------


def refusal(target: Target, wanted: Mapping[str, Any]) -> Optional[str]:
    """Why Docker cannot make exactly this of a container, as a sentence; None where it can."""
    memory, low = wanted.get("memory_max"), wanted.get("memory_low", 0)
    limit = wanted.get("memory_max", target.stored.get("memory_max"))
    if memory is not None and memory < _LEAST:
        return "Docker takes no memory_max below 6M."
    if low is not None and 0 < low < _LEAST:
        return "Docker takes no memory_low below 6M."
    if limit is not None and (low is None or low > limit):
        return "Docker takes no memory_low above memory_max, and a container that has it does not start again."
    if low == 0 and "memory_low" in wanted and target.cgroup_version == 2 and target.kept:
        return "Docker cannot take memory_low away; give it 6M or more, or make the container anew."
    return policy_containers.refusal(target, target.stored, wanted)


def before(target: Target, wanted: Mapping[str, Any]) -> Dict[str, Any]:
    """What ``undo`` needs, as plain data; to be kept before ``apply``."""
    return policy_containers.order(target, target.stored, wanted)


def apply(host: run.Host, target: Target, wanted: Mapping[str, Any], lasting: bool) -> None:
    """Make the change: one `docker update`, and the scope's properties where it has no option.

    :arg lasting: Docker keeps every update, a scope no property: the abilities of the target say which.

    Raises ManagerError, VanishedError.
    """
    sentence = refusal(target, wanted)
    if sentence:
        raise ManagerError(sentence)
    told = before(target, wanted)
    told["settings"].update(wanted)
    _tell(host, told)


def undo(host: run.Host, before: Dict[str, Any]) -> None:
    """Give a container back what it had. Raises ManagerError, VanishedError."""
    stays = before["cgroup_version"] == 2 and "memory_low" in before["asked"] and not before["settings"]["memory_low"]
    least = {"memory_low": _LEAST} if stays else {}
    _tell(host, dict(before, settings=dict(before["settings"], **least)))
    if stays:
        raise ManagerError(_STAYS.format(before["identity"]), "Make the container anew without --memory-reservation.")


def finish(host: run.Host, identities: Sequence[str]) -> Dict[str, str]:
    """Nothing is left to be done behind a batch of changes."""
    return {}


def _tell(host: run.Host, told: Dict[str, Any]) -> None:
    options = _options(told)
    policy_containers.tell(host, told, _command(host) + ["update"] + options + [told["identity"]] if options else [])


@functools.lru_cache(maxsize=1)
def _command(host: run.Host) -> List[str]:
    """The command of the daemon, looked for once: that reads the names of all processes."""
    daemon = engine_cli.docker_daemon(host)
    if daemon is None:
        raise ManagerError(_SILENT, _START_IT)
    return daemon[0]


def _options(told: Dict[str, Any]) -> List[str]:
    """Memory, swap and reservation, computed together: dockerd checks each update alone, and a start all of it.

    A reservation above the limit is taken by an update, and then the container does not start again (20.10).
    """
    version, settings = told["cgroup_version"], told["settings"]
    limits = policy_containers.limits_asked(told)
    options = []
    if limits:
        options += policy_containers.limit_options(version, settings["memory_max"], settings["memory_swap_max"])
    reservation = _reservation(version, settings["memory_low"], settings["memory_max"])
    if reservation and ("memory_low" in told["asked"] or (limits and told["kept"])):
        options.append("--memory-reservation={0}".format(reservation))
    return options


def _reservation(version: int, low: Optional[int], limit: Optional[int]) -> int:
    """The number for memory_low; 0: Docker has none for it. As soft limit, the limit itself is as none."""
    highest = policy_containers.MOST if limit is None else limit
    if low == 0:
        return highest if version == 1 else 0
    return highest if low is None else min(low, highest)

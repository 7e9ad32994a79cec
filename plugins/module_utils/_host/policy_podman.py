# Copyright (c) 2026 oom.forensics contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Podman as a keeper of memory settings. Private to this collection.

One `podman inspect` tells all containers, one `podman update` changes one: it keeps its id and its processes. Whether
Podman remembers the change is a matter of its version, which the options of its `update` tell.
"""

import re
from typing import Any, Dict, FrozenSet, Iterable, List, Mapping, Optional, Sequence, Tuple

from .._policy.model import Ability, Survives, Target
from . import engine_cli, policy_containers, policy_kernel, run
from . import engine_rows as rows
from .policy_calls import ManagerError, call

_SWAPPINESS = "memory-swappiness"
# By option, where Podman tells the limit: first memory, swap and reservation. An update that is remembered sets those
# to none that it is not told (Podman 5.1 to 5.3, #24610).
_LIMITS = (
    ("memory", ".HostConfig.Memory"),
    ("memory-swap", ".HostConfig.MemorySwap"),
    ("memory-reservation", ".HostConfig.MemoryReservation"),
    (_SWAPPINESS, ".HostConfig.MemorySwappiness"),
    ("cpu-shares", ".HostConfig.CpuShares"),
    ("cpu-period", ".HostConfig.CpuPeriod"),
    ("cpu-quota", ".HostConfig.CpuQuota"),
    ("cpu-rt-period", ".HostConfig.CpuRealtimePeriod"),
    ("cpu-rt-runtime", ".HostConfig.CpuRealtimeRuntime"),
    ("cpuset-cpus", ".HostConfig.CpusetCpus"),
    ("cpuset-mems", ".HostConfig.CpusetMems"),
    ("pids-limit", ".HostConfig.PidsLimit"),
    ("blkio-weight", ".HostConfig.BlkioWeight"),
    ("blkio-weight-device", ".HostConfig.BlkioWeightDevice"),
    ("device-read-bps", ".HostConfig.BlkioDeviceReadBps"),
    ("device-write-bps", ".HostConfig.BlkioDeviceWriteBps"),
    ("device-read-iops", ".HostConfig.BlkioDeviceReadIOps"),
    ("device-write-iops", ".HostConfig.BlkioDeviceWriteIOps"),
)
# Chosen by name: no environment variable leaves the command.
_FIELDS = (
    ".ID",
    ".Name",
    ".ImageName",
    ".Config.Labels",
    ".IsInfra",
    ".State.Pid",
    ".HostConfig.OomScoreAdj",
) + tuple(field for _option, field in _LIMITS)
_TEMPLATE = "[{0}]".format(",".join("{{{{json {0}}}}}".format(field) for field in _FIELDS))
_NUMBERS = slice(5, 10)

_OPTION = re.compile(r"(?m)^ +(?:-[a-z], )?--([a-z-]+)")
# Podman 5.1 got this option together with a memory: before, the database had no place for what was updated (#22322).
_REMEMBERS = "restart"
_FORGOTTEN = Survives(workload_restart=False, engine_restart=None, host_restart=False)
_REMEMBERED = Survives(workload_restart=True, engine_restart=None, host_restart=True)
_UNIT = "PODMAN_SYSTEMD_UNIT"  # podman-generate-systemd(1), podman-systemd.unit(5)

_TOO_OLD = (
    "This Podman has no `podman update` (it came with 4.3); install a newer one, or make the container anew with "
    "--memory, or set a limit on the slice that it is in."
)
_ANOTHER_USERS = "It belongs to the Podman of another user; run the module as this user."
_STRANGER = "Podman does not know it: it is in another store, which CONTAINERS_CONF may name."
_SILENT = "Podman cannot be asked on this host, and containers of Podman run here."
_INSTALL_IT = "Install podman, or name its settings in CONTAINERS_CONF; then run the policy again."


# --- seeing ----------------------------------------------------------------------------------------------------------


def targets(host: run.Host, cgroups: Iterable[Dict[str, Any]]) -> Tuple[List[Target], Dict[str, Any]]:
    """The running containers of Podman, and Podman's row of the coverage. Never raises.

    :arg cgroups: as ``policy_docker.targets`` takes them.

    A container inside of a service (Quadlet, `--cgroups=split`) comes with the manager ``systemd`` and the unit as its
    identity, and without settings: what systemd tells of that unit is to be put in, and its limits are the unit's.
    """
    everything = list(cgroups)
    by_path = {each["path"]: each for each in everything}
    found = policy_containers.containers(everything, ("podman",))
    command = engine_cli.podman_command(host)
    uid = policy_containers.this_user()
    mine = [each for each in found if policy_containers.of_user(each, uid)]
    known: Dict[str, policy_containers.Known] = {}
    options: FrozenSet[str] = frozenset()
    error = None
    if command and mine:
        try:
            options = _options_of_update(host, command)
            known = _known(host, command, policy_containers.owners(mine), options)
        except ManagerError as problem:
            error = problem
    elif mine:
        error = ManagerError(_SILENT, _INSTALL_IT)
    limited = (_limited(each, by_path) for each in found)
    made = (_target(host, each, known.get(each["workload"]["id"]), error, options) for each in limited)
    all_made = [each for each in made if each]
    return all_made, policy_containers.coverage("podman", command is not None and error is None, all_made, error)


def _limited(cgroup: Dict[str, Any], by_path: Mapping[str, Dict[str, Any]]) -> Dict[str, Any]:
    """A container's cgroup with the numbers of the one that has its limits."""
    inner = by_path.get(policy_kernel.inside(cgroup["path"]) or "")
    if inner is None or inner["cgroup_version"] == 1 or inner["memory_current"] is None:
        return cgroup
    return dict(inner, path=cgroup["path"], workload=cgroup["workload"])  # its depth tells that it is another


def _options_of_update(host: run.Host, command: Sequence[str]) -> FrozenSet[str]:
    """The options of `podman update`, without dashes.

    An older Podman shows its own help instead, with status 0 (observed with 4.3 and a verb that there is not).
    """
    said = call(host, list(command) + ["update", "--help"]).decode("utf-8", "replace")
    return frozenset(_OPTION.findall(said))


def _known(
    host: run.Host, command: Sequence[str], owners: Mapping[str, Optional[int]], options: FrozenSet[str]
) -> Dict[str, policy_containers.Known]:
    """What Podman tells of containers, by their ids."""
    argv = list(command) + ["inspect", "--type", "container", "--format", _TEMPLATE] + list(owners)
    # One that is gone makes the command fail, behind all its other answers (4.3).
    said = call(host, argv, forgiven="no such container")
    answers = (_answer(rows.parsed(line), owners, options) for line in said.splitlines())
    return {each.row["id"]: each for each in answers if each}


def _answer(
    values: Any, owners: Mapping[str, Optional[int]], options: FrozenSet[str]
) -> Optional[policy_containers.Known]:
    if not isinstance(values, list) or len(values) != len(_FIELDS) or values[0] not in owners:
        return None
    identifier, name, image, labels, infrastructure = values[:5]
    numbers = (each if isinstance(each, int) else 0 for each in values[_NUMBERS])
    pid, adjustment, memory, both, reservation = numbers
    row = rows.row("podman", identifier, "engine", owners[identifier], name=name, image=image, labels=labels)
    if row is None:
        return None
    kept = _kept([memory, _swap_beside(memory, both), reservation] + values[_NUMBERS.stop :], options)
    return policy_containers.Known(row, pid, (memory, both, reservation), adjustment, infrastructure is True, kept)


def _kept(values: Sequence[Any], options: FrozenSet[str]) -> Tuple[str, ...]:
    """All limits as options; none where Podman forgets updates: it resets nothing, and what it tells may be old."""
    if _REMEMBERS not in options:
        return ()
    found: List[str] = []
    limited = any(values[:3])
    for (option, _field), value in zip(_LIMITS, values):
        if option in options and _is_set(option, value, limited):
            found.extend("--{0}={1}".format(option, each) for each in _words(value))
    return tuple(found)


def _swap_beside(memory: int, both: int) -> int:
    """No limit of swap in words: of memory alone, an update would make the sum with swap twice as much."""
    return policy_containers.MOST if memory and both <= 0 else max(0, both)


def _is_set(option: str, value: Any, limited: bool) -> bool:
    """Whether somebody has set a limit. A swappiness that nobody has is -1 beside a limit of memory, else 0 (4.3)."""
    return value not in (-1, None) and (limited or value != 0) if option == _SWAPPINESS else bool(value)


def _words(value: Any) -> Iterable[str]:
    """A value as `podman update` takes it; one of a device is a path with a rate or a weight."""
    if not isinstance(value, list):
        return [str(value)]
    return ["{0}:{1}".format(each.get("Path"), each.get("Rate", each.get("Weight"))) for each in rows.dicts(value)]


def _target(
    host: run.Host,
    cgroup: Dict[str, Any],
    known: Optional[policy_containers.Known],
    error: Optional[ManagerError],
    options: FrozenSet[str],
) -> Optional[Target]:
    """A target; None for what is gone."""
    if known:
        return _of_service(_container(host, cgroup, known, options))
    if not policy_containers.of_user(cgroup, policy_containers.this_user()):
        return policy_containers.unasked("none", cgroup, _ANOTHER_USERS)
    if error:
        return policy_containers.unasked("podman", cgroup, error.sentence)
    there = policy_kernel.read(host, cgroup["path"])
    return policy_containers.unasked("none", cgroup, _STRANGER) if there else None


def _container(
    host: run.Host, cgroup: Dict[str, Any], known: policy_containers.Known, options: FrozenSet[str]
) -> Target:
    update = _update(options, (known.row["labels"] or {}).get(_UNIT))
    unit = policy_containers.scope_of(cgroup) if cgroup["depth"] == cgroup["path"].count("/") else None
    abilities = policy_containers.abilities("Podman", cgroup, update, unit)
    return policy_containers.target(host, "podman", cgroup, known, abilities)


def _update(options: FrozenSet[str], unit: Optional[str]) -> Ability:
    """What `podman update` can do for a container, and what is left of it after the next start."""
    if "memory" not in options:
        return Ability(_TOO_OLD, False, None, Survives(None, None, None))
    if unit:
        how = "`podman update`; {0} makes the container anew at each of its starts".format(unit)
        return Ability(None, True, how, _FORGOTTEN)
    return Ability(None, True, "`podman update`", _REMEMBERED if _REMEMBERS in options else _FORGOTTEN)


def _of_service(found: Target) -> Target:
    unit = found.workload["unit"]
    if not unit or not unit.endswith(".service") or found.workload["uid"] is not None:
        return found
    return found._replace(manager="systemd", identity=unit, unit=unit, stored={}, effective={}, abilities={}, kept=())


# --- changing --------------------------------------------------------------------------------------------------------


def refusal(target: Target, wanted: Mapping[str, Any]) -> Optional[str]:
    """Why Podman cannot make exactly this of a container, as a sentence; None where it can."""
    return policy_containers.refusal(target, target.effective, wanted)


def before(target: Target, wanted: Mapping[str, Any]) -> Dict[str, Any]:
    """What ``undo`` needs, as plain data; to be kept before ``apply``. The kernel's values: Podman's may be old."""
    return policy_containers.order(target, target.effective, wanted)


def apply(host: run.Host, target: Target, wanted: Mapping[str, Any], lasting: bool) -> None:
    """Make the change: one `podman update`, and the scope's properties where it has no option.

    :arg lasting: of no effect: Podman remembers, or forgets, each update; the abilities of the target say which.

    Raises ManagerError, VanishedError.
    """
    sentence = refusal(target, wanted)
    if sentence:
        raise ManagerError(sentence)
    told = before(target, wanted)
    told["settings"].update(wanted)
    _tell(host, told)


def undo(host: run.Host, before: Dict[str, Any]) -> None:
    """Give a container back what it had. Raises ManagerError, VanishedError.

    Its other limits stay as they are by now, not as they were.
    """
    _tell(host, dict(before, kept=_kept_now(host, before["identity"])) if before["kept"] else before)


def _kept_now(host: run.Host, identifier: str) -> List[str]:
    command = _command(host)
    known = _known(host, command, {identifier: None}, _options_of_update(host, command))
    return [word for each in known.values() for word in each.kept]


def finish(host: run.Host, identities: Sequence[str]) -> Dict[str, str]:
    """Nothing is left to be done behind a batch of changes."""
    return {}


def _tell(host: run.Host, told: Dict[str, Any]) -> None:
    options = _options(told)
    policy_containers.tell(host, told, _command(host) + ["update"] + options + [told["identity"]] if options else [])


def _command(host: run.Host) -> List[str]:
    """The command alone: Podman had run when the container was found."""
    return [host.which("podman") or "podman"]


def _options(told: Dict[str, Any]) -> List[str]:
    version, settings = told["cgroup_version"], told["settings"]
    limits = policy_containers.limits_asked(told)
    options = []
    if limits:
        # Of memory alone, 4.3 would make the sum with swap twice as much.
        options += policy_containers.limit_options(version, settings["memory_max"], settings["memory_swap_max"])
    low = settings["memory_low"]
    if "memory_low" in told["asked"] or (limits and low != 0):
        options.append("--memory-reservation={0}".format(_reservation(version, low)))
    return options + _not_among(options, told["kept"]) if options else []


def _not_among(options: Sequence[str], kept: Sequence[str]) -> List[str]:
    """What is kept and not told anew."""
    told = {_name(each) for each in options}
    return [each for each in kept if _name(each) not in told]


def _name(option: str) -> str:
    return option.partition("=")[0]


def _reservation(version: int, low: Optional[int]) -> int:
    """The number for memory_low. Podman ignores 0, and one byte is no page for the kernel; v1 has no soft limit."""
    none = policy_containers.MOST if version == 1 else 1
    return policy_containers.MOST if low is None else low or none

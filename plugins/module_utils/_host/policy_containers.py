# Copyright (c) 2026 oom.forensics contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What Docker and Podman have in common as keepers of memory settings. Private to this collection.

Both take memory, and memory with swap, and have no word for no limit; zero is as if nothing was said. What they can
not do for a running container, and systemd can for its scope, is done there until the container's next start.
"""

import os
import re
from typing import Any, Dict, Iterable, List, Mapping, NamedTuple, Optional, Sequence, Tuple

from .._oom import workload as workloads
from .._policy.model import SETTINGS, Ability, Survives, Target
from . import engine_rows, engines, policy_kernel, policy_systemctl, run
from .cgroup_memory import UNLIMITED
from .policy_calls import ManagerError, VanishedError, call

# The largest number that a cgroup holds, which is no limit there (PAGE_COUNTER_MAX, with pages of 4 KiB).
MOST = 9223372036854771712
# On v2 the runtimes take memory from memory with swap, and both have to be beyond all that a machine has.
_NO_MEMORY_LIMIT = {1: MOST, 2: 2**62}

_ID = re.compile("[0-9a-f]{64}")
_TOGETHER = ("memory_max", "memory_swap_max")
_SCOPE_PROPERTIES = ("memory_high", "memory_min")  # for which no engine has an option
_PROPERTIES = {
    "memory_max": "MemoryMax",
    "memory_high": "MemoryHigh",
    "memory_low": "MemoryLow",
    "memory_min": "MemoryMin",
    "memory_swap_max": "MemorySwapMax",
}
UPDATED = _TOGETHER + ("memory_low",)

_OF_KUBELET = "kubelet sets its limits from the pod's spec; change the manifest."


# --- which containers ------------------------------------------------------------------------------------------------


def containers(cgroups: Iterable[Dict[str, Any]], engine_names: Sequence[Optional[str]]) -> List[Dict[str, Any]]:
    """The cgroups that are containers of these engines, and not inside of another container.

    :arg cgroups: with the keys of ``cgroup_memory.KEYS``, parents before their children.
    :arg engine_names: None among them: containers whose path does not say whose they are.
    """
    found: Dict[str, Dict[str, Any]] = {}
    for cgroup in cgroups:
        workload, path = cgroup["workload"], cgroup["path"]
        if workload["kind"] == "container" and not any(above in found for above in _above(path)):
            found[path] = cgroup
    mine = (each for each in found.values() if each["workload"]["engine"] in engine_names)
    return [each for each in mine if _ID.fullmatch(each["workload"]["id"] or "")]


def _above(path: str) -> Iterable[str]:
    while path.count("/") > 1:
        path = path.rpartition("/")[0]
        yield path


def owners(cgroups: Iterable[Dict[str, Any]]) -> Dict[str, Optional[int]]:
    """The user that each container's path names, by the container's id."""
    return {each["workload"]["id"]: each["workload"]["uid"] for each in cgroups}


def of_user(cgroup: Dict[str, Any], uid: Optional[int]) -> bool:
    """Whether a container is of this user's engine; None: of the host's own, which root runs."""
    return (cgroup["workload"]["uid"] or None) == (uid or None)


def scope_of(cgroup: Dict[str, Any]) -> Optional[str]:
    """The scope of the host's systemd that a container is; None where it is none."""
    name = cgroup["path"].rpartition("/")[2]
    return name if name.endswith(".scope") and of_user(cgroup, None) else None


# --- targets ---------------------------------------------------------------------------------------------------------


class Known(NamedTuple):
    """What an engine told of one container.

    :ivar row: as of ``engine_rows.row``.
    :ivar pid: its first process; 0 where it does not run.
    :ivar told: memory, memory with swap, and reservation, in bytes as the engine keeps them.
    :ivar oom_score_adjust: None where the engine does not tell.
    :ivar passing: the engine removes it when it ends (--rm).
    """

    row: engine_rows.Row
    pid: int
    told: Tuple[int, int, int]
    oom_score_adjust: Optional[int]
    infrastructure: bool
    kept: Tuple[str, ...]
    passing: bool = False


def target(host: run.Host, manager: str, cgroup: Dict[str, Any], known: Known, abilities: Dict[str, Ability]) -> Target:
    """The container with what its engine and the kernel have of it."""
    row = known.row
    workload = engines.fill(cgroup["workload"], {engine_rows.key(row["uid"], row["id"]): row})
    effective = policy_kernel.settings(cgroup)
    adjustment = policy_kernel.oom_score_adj(host, known.pid) if known.pid else None
    if adjustment is not None:
        effective["oom_score_adjust"] = adjustment
    stored = _meant(cgroup["cgroup_version"], *known.told)
    if known.oom_score_adjust is not None:
        stored["oom_score_adjust"] = known.oom_score_adjust
    found = _bare(manager, cgroup, workload, abilities)
    return found._replace(stored=stored, effective=effective, infrastructure=known.infrastructure, kept=known.kept)


def unasked(manager: str, cgroup: Dict[str, Any], sentence: str) -> Target:
    """A container of which no engine tells anything, and that nobody changes for the reason in the sentence."""
    found = _bare(manager, cgroup, dict(cgroup["workload"]), refused(sentence))
    return found._replace(effective=policy_kernel.settings(cgroup))


def of_kubelet(found: Target) -> Target:
    """The same container, where kubelet is who keeps its settings."""
    return found._replace(manager="none", abilities=refused(_OF_KUBELET))


def _bare(manager: str, cgroup: Dict[str, Any], workload: Dict[str, Any], abilities: Dict[str, Ability]) -> Target:
    return Target(
        manager=manager,
        identity=workload["id"],
        label=workloads.label(workload),
        workload=workload,
        path=cgroup["path"],
        unit=scope_of(cgroup),
        cgroup_version=cgroup["cgroup_version"],
        stored={},
        effective={},
        usage=policy_kernel.usage(cgroup),
        abilities=abilities,
        critical=False,
        infrastructure=False,
    )


def coverage(
    manager: str, available: bool, targets: Sequence[Target], error: Optional[ManagerError] = None
) -> Dict[str, Any]:
    """A manager's row of the coverage."""
    return {
        "manager": manager,
        "available": available,
        "workloads": sum(each.manager == manager for each in targets),
        "error": None if error is None else str(error),
        "advice": None if error is None else error.advice,
    }


# --- what can be done ------------------------------------------------------------------------------------------------

_HOW = "`systemctl set-property --runtime {0}`"
_V1_HAS_NONE = "cgroup v1 has no {0}; boot the host with cgroup v2."
_NO_WORD = (
    "{engine} has no option for {setting}, and no scope of the host's systemd, which has one, holds the limits of this "
    "container; set it on the slice that the container is in, or use the cgroup driver systemd and the runtime runc."
)
_NO_SWAP = "The kernel does not account swap by cgroup here; boot with swapaccount=1."
_NEVER = {
    "oom_group": (
        "{engine} has no option for oom_group; where its containers are scopes of systemd, give oom_policy kill to all "
        "of them by a rule whose unit is a prefix, such as docker-.scope."
    ),
    "oom_policy": "A container has no oom_policy; give it to its scopes by a rule whose unit is a prefix.",
    "oom_score_adjust": "{engine} sets it only where it makes a container; make it anew with --oom-score-adj.",
}


def abilities(engine: str, cgroup: Dict[str, Any], update: Ability, unit: Optional[str]) -> Dict[str, Ability]:
    """What can be done for a container whose engine does ``update`` for memory, swap and reservation.

    :arg unit: the scope that has the container's limits; None where none has.
    """
    found = dict.fromkeys(UPDATED, update)
    for setting in SETTINGS:
        sentence = _objection(setting, cgroup, unit)
        if sentence:
            found[setting] = _refused(sentence.format(setting, engine=engine, setting=setting))
        elif setting in _SCOPE_PROPERTIES:
            found[setting] = Ability(None, True, _HOW.format(unit), _until_next_start(update.survives))
    return found


def _until_next_start(survives: Survives) -> Survives:
    """A scope's property goes with the scope; an engine that is restarted ends its containers."""
    return Survives(False, None if survives.engine_restart is None else False, False)


def _objection(setting: str, cgroup: Dict[str, Any], unit: Optional[str]) -> Optional[str]:
    if cgroup["cgroup_version"] == 1 and setting in ("memory_high", "memory_min", "oom_group"):
        return _V1_HAS_NONE
    if setting in _SCOPE_PROPERTIES and unit is None:
        return _NO_WORD
    if setting == "memory_swap_max" and setting not in policy_kernel.settings(cgroup):
        return _NO_SWAP
    return _NEVER.get(setting)


def refused(sentence: str) -> Dict[str, Ability]:
    """Nothing can be done, for this reason."""
    return {setting: _refused(sentence) for setting in SETTINGS}


def _refused(sentence: str) -> Ability:
    return Ability(sentence, False, None, Survives(None, None, None))


def refusal(target_: Target, present: Mapping[str, Any], wanted: Mapping[str, Any]) -> Optional[str]:
    """Why no engine can make exactly this of a container, as a sentence; None where one can."""
    version = target_.cgroup_version
    for setting in wanted:
        if target_.abilities[setting].refusal:
            return target_.abilities[setting].refusal
    if version == 1 and wanted.get("memory_low", 0) is None:
        return "cgroup v1 has a soft limit and no protection, so memory_low cannot be max; give it a size."
    memory = wanted.get("memory_max", present.get("memory_max"))
    if version == 1 and memory is None and wanted.get("memory_swap_max") is not None:
        return "cgroup v1 limits swap only together with memory; set memory_max beside memory_swap_max."
    return None


# --- numbers ---------------------------------------------------------------------------------------------------------


def _meant(version: int, memory: int, both: int, reservation: int) -> Dict[str, Any]:
    """What the numbers of an engine mean as settings. Zero is nothing said, less than zero is no limit."""
    limit = memory if 0 < memory < UNLIMITED else None
    swap = both - memory if both > 0 and memory > 0 else UNLIMITED
    if version == 1:
        soft = reservation if 0 < reservation < UNLIMITED else None
        low: Optional[int] = policy_kernel.low_of_soft_limit(soft, limit)
    else:
        low = reservation if reservation < UNLIMITED else None
    return {
        "memory_max": limit,
        "memory_swap_max": None if swap >= UNLIMITED or (version == 1 and limit is None) else swap,
        "memory_low": low,
    }


def limit_options(version: int, memory: Optional[int], swap: Optional[int]) -> List[str]:
    """The options for a limit of memory and one of swap alone, in bytes; None: no limit.

    -1 for swap is stored, and does not reach the kernel (dockerd 20.10), or is ignored (Podman 4.3): never used.
    """
    told = _NO_MEMORY_LIMIT[version] if memory is None else memory
    both = MOST if swap is None or (version == 1 and memory is None) else told + swap
    return ["--memory={0}".format(told), "--memory-swap={0}".format(both)]


# --- orders ----------------------------------------------------------------------------------------------------------


def order(target_: Target, present: Mapping[str, Any], asked: Iterable[str]) -> Dict[str, Any]:
    """What can be told to an engine, as plain data: ``settings`` as they are now, of which ``asked`` will change."""
    settings = {name: present.get(name) for name in _TOGETHER}
    settings["memory_low"] = present.get("memory_low", 0)
    settings.update((name, target_.effective.get(name)) for name in _SCOPE_PROPERTIES)
    return {
        "identity": target_.identity,
        "path": target_.path,
        "unit": target_.unit if target_.abilities["memory_high"].refusal is None else None,
        "cgroup_version": target_.cgroup_version,
        "settings": settings,
        "asked": sorted(asked),
        "kept": list(target_.kept),
    }


def limits_asked(told: Dict[str, Any]) -> bool:
    """Whether an order is for memory or swap, which engines only take together."""
    return any(name in told["asked"] for name in _TOGETHER)


def tell(host: run.Host, told: Dict[str, Any], argv: Sequence[str]) -> None:
    """Carry out an order: the engine's command, if it has options, and the properties of the scope.

    Raises ManagerError; VanishedError where the container's cgroup is gone.
    """
    try:
        if argv:
            call(host, argv)
        properties = _properties(host, told)
        if properties:
            policy_systemctl.set_properties(host, told["unit"], properties, lasting=False)
    except ManagerError as error:
        if policy_kernel.read(host, told["path"]) is None:
            raise VanishedError("It ended meanwhile: {0}".format(error)) from error
        raise


def _properties(host: run.Host, told: Dict[str, Any]) -> Dict[str, Any]:
    """What the host's systemd has to be told of the scope; nothing where none has the container's limits.

    Also what the engine was told: runc 1.1 keeps a changed limit of swap, and one of 0, to itself, and then any
    property and any daemon-reload brings back what systemd knows (observed with 252). And here no limit has a word.
    """
    asked = set(told["asked"]) | (set(_TOGETHER) if limits_asked(told) else set())
    if told["cgroup_version"] == 1 or told["unit"] is None or not asked:
        return {}
    settings = told["settings"]
    if not limits_asked(told):
        settings = dict(settings, **_swap_now(host, told["path"]))
        asked.add("memory_swap_max")
    return {name: settings[setting] for setting, name in _PROPERTIES.items() if setting in asked}


def _swap_now(host: run.Host, path: str) -> Dict[str, Any]:
    now = policy_kernel.effective(host, path) or {}
    return {"memory_swap_max": now.get("memory_swap_max")}


def this_user() -> Optional[int]:
    """The user whose engines are asked; None: root."""
    return os.geteuid() or None

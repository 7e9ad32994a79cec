# Copyright (c) 2026 oom.forensics contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""systemd as a keeper of memory settings. Private to this collection.

A unit gets a drop-in. One daemon-reload behind all changes puts them into force, for running units too, and no process
is started anew (observed with 252 and 257). A transient unit, which is gone with its end, gets properties instead.
"""

import os
import re
import shlex
import time
from typing import Any, Dict, FrozenSet, Iterable, Iterator, List, Mapping, Optional, Sequence, Set, Tuple

from .._oom import workload as workloads
from .._policy.model import SETTINGS, SIZES, Ability, Survives, Target, Usage
from . import counters, facts, policy_dropins, policy_kernel, policy_systemctl, run
from .policy_calls import ManagerError

_PROPERTIES = {
    "memory_max": "MemoryMax",
    "memory_high": "MemoryHigh",
    "memory_low": "MemoryLow",
    "memory_min": "MemoryMin",
    "memory_swap_max": "MemorySwapMax",
    "oom_policy": "OOMPolicy",
    "oom_score_adjust": "OOMScoreAdjust",
}
_OF_UNITS = ("LoadState", "Transient", "ControlGroup", "DropInPaths", "MainPID", "NeedDaemonReload")
_ASKED = _OF_UNITS + tuple(sorted(_PROPERTIES.values()))
# The switch memory.oom.group is on where the policy is kill (252), and systemd has no other word for it.
_GROUP_KILL = "kill"
# What a unit has that is told nothing: a service that delegates nothing, and any other unit (252).
_USUAL_POLICY = {"service": "stop"}
_DELEGATED_POLICY = "continue"
_POLICIES = ("continue", "stop", _GROUP_KILL)

_MANAGER = "systemd"
_BOOTED = "/run/systemd/system"  # sd_booted(3)
# In Target.kept, of a transient unit. Of another one the drop-ins that the policy already has there are.
_TRANSIENT = "--runtime"
_GRACE_SECONDS = 1.0
_POLL_SECONDS = 0.05
_UNIT = re.compile(r"[A-Za-z0-9:_.\\@-]{1,250}\.[a-z]+")

Shown = Mapping[str, str]


# --- seeing ----------------------------------------------------------------------------------------------------------


def targets(
    host: run.Host, cgroups: Iterable[Dict[str, Any]], prefixes: Sequence[str] = (), lasting: bool = True
) -> Tuple[List[Target], Dict[str, Any]]:
    """The units that these cgroups are, a target for each prefix, and systemd's row of the coverage. Never raises.

    :arg cgroups: with the keys of ``cgroup_memory.KEYS`` and ``policy_kernel.RECLAIMABLE`` in their ``stat``. Those
        that are no unit of the host's systemd, but inside of one, are left out.
    :arg prefixes: such as ``docker-.scope``.
    :arg lasting: whether the changes that are thought of are to outlive a restart of the host.
    """
    if host.which("systemctl") is None or not os.path.isdir(run.below(host, _BOOTED)):
        return [], _coverage(False, 0)
    there = {cgroup["path"]: cgroup for cgroup in cgroups if not policy_systemctl.is_own(cgroup["path"])}
    names = sorted({path.rpartition("/")[2] for path in there})
    patterns = [_all_of(prefix) for prefix in prefixes if _UNIT.fullmatch(prefix)]
    try:
        shown = policy_systemctl.show(host, names + patterns, _ASKED)
    except ManagerError as error:
        refused = [_unasked(cgroup, error.sentence) for cgroup in there.values()]
        return refused, _coverage(False, len(refused), error)
    own = {unit: there[each["ControlGroup"]] for unit, each in shown.items() if each["ControlGroup"] in there}
    critical = _critical(host, {unit: cgroup["path"] for unit, cgroup in own.items()})
    found = [_target(host, unit, cgroup, shown[unit], lasting) for unit, cgroup in own.items()]
    found = [each._replace(critical=each.path in critical) for each in found]
    version = next((cgroup["cgroup_version"] for cgroup in there.values()), 2)
    found += [_of_prefix(host, prefix, version, shown, lasting) for prefix in prefixes]
    return found, _coverage(True, len(found))


def _coverage(available: bool, count: int, error: Optional[ManagerError] = None) -> Dict[str, Any]:
    return {
        "manager": _MANAGER,
        "available": available,
        "workloads": count,
        "error": None if error is None else str(error),
        "advice": None if error is None else error.advice,
    }


def _all_of(prefix: str) -> str:
    """A pattern for the units that begin with a prefix; `systemctl show` prints nothing where none runs."""
    return "{0}?*.{1}".format(_stem(prefix), _type(prefix))


def _critical(host: run.Host, paths: Mapping[str, str]) -> Set[str]:
    """The cgroups of daemons that the host cannot do without, and of the slices that they are in."""
    units = {each["unit"] for each in facts.critical_processes(host)}
    daemons = [path for unit, path in paths.items() if unit in units]
    return {path for path in paths.values() if any((each + "/").startswith(path + "/") for each in daemons)}


def _target(host: run.Host, unit: str, cgroup: Dict[str, Any], shown: Shown, lasting: bool) -> Target:
    transient = _is_transient(shown)
    drop_ins = {} if transient else policy_dropins.read(host, unit)
    later = {} if transient else policy_dropins.later(host, unit, _read_by_systemd(shown), lasting)
    effective = policy_kernel.settings(cgroup)
    adjustment = _adjustment(host, shown)
    if adjustment is not None:
        effective["oom_score_adjust"] = adjustment
    found = _bare(unit, cgroup["workload"], cgroup["path"], cgroup["cgroup_version"])
    return found._replace(
        label=workloads.label(cgroup["workload"]),
        stored=_stored(shown, _assigned(drop_ins.values(), later) if _in_force(shown, drop_ins) else {}),
        effective=effective,
        usage=policy_kernel.usage(cgroup),
        abilities=_abilities(found, shown, later, effective, lasting),
        kept=(_TRANSIENT,) if transient else _kept(drop_ins),
    )


def _is_transient(shown: Shown) -> bool:
    return shown["Transient"] == "yes"


def _bare(unit: str, workload: Dict[str, Any], path: Optional[str], version: int) -> Target:
    return Target(
        manager=_MANAGER,
        identity=unit,
        label=unit,
        workload=workload,
        path=path,
        unit=unit,
        cgroup_version=version,
        stored={},
        effective={},
        usage=Usage(None, None, None, None),
        abilities={},
        critical=False,
        infrastructure=False,
    )


def _unasked(cgroup: Dict[str, Any], sentence: str) -> Target:
    """A unit that nothing is known of but its cgroup, and that is not changed for the reason in the sentence."""
    unit = cgroup["path"].rpartition("/")[2]
    found = _bare(unit, cgroup["workload"], cgroup["path"], cgroup["cgroup_version"])
    return found._replace(
        effective=policy_kernel.settings(cgroup),
        usage=policy_kernel.usage(cgroup),
        abilities={setting: _refused(sentence) for setting in SETTINGS},
    )


def _adjustment(host: run.Host, shown: Shown) -> Optional[int]:
    """That of a service's main process; None where there is none."""
    pid = shown["MainPID"]
    return policy_kernel.oom_score_adj(host, int(pid)) if pid.isdigit() and int(pid) else None


def _in_force(shown: Shown, drop_ins: Iterable[str]) -> bool:
    """Whether systemd has read these drop-ins of a unit as they are; a run may have been cut off before its reload.

    They are looked for too: of a file in a new folder systemd does not see that it needs a reload (its issue 31752,
    until 256), and of what runc has made it always says so (issue 35710). By name, because of two prefixes that are
    for a unit the longer one's file takes the place of the other's.
    """
    read = {os.path.basename(each) for each in _read_by_systemd(shown)}
    outdated = shown["NeedDaemonReload"] == "yes" and not _is_transient(shown)
    return not outdated and all(os.path.basename(each) in read for each in drop_ins)


def _read_by_systemd(shown: Shown) -> List[str]:
    """The drop-ins that systemd has read for a unit; it quotes a path with a backslash as a shell would."""
    return shlex.split(shown["DropInPaths"])


def _assigned(texts: Iterable[str], later: Mapping[str, str]) -> Dict[str, str]:
    """What the policy's own drop-ins set and nobody else sets behind them.

    systemd may show what somebody set over it until the next daemon-reload.
    """
    found: Dict[str, str] = {}
    for text in texts:
        found.update(policy_dropins.assignments(text))
    return {name: value for name, value in found.items() if name not in later}


def _stored(*shown: Mapping[str, str]) -> Dict[str, Any]:
    """The settings in these texts of properties, the last one first."""
    found: Dict[str, Any] = {}
    for each in shown:
        found.update((setting, value) for setting in _PROPERTIES for value in _values(setting, each))
    if "oom_policy" in found:
        found["oom_group"] = found["oom_policy"] == _GROUP_KILL
    return found


def _values(setting: str, shown: Mapping[str, str]) -> Iterator[Any]:
    """The value of a setting; nothing where there is none, or none that a policy could set."""
    text = shown.get(_PROPERTIES[setting], "")
    if setting == "oom_policy":
        known = text in _POLICIES
    else:
        known = text.lstrip("-").isdigit() or (setting in SIZES and text == policy_systemctl.NONE)
    if known:
        yield _VALUES.get(setting, policy_systemctl.size)(text)


_VALUES = {"oom_policy": str, "oom_score_adjust": int}


def _kept(drop_ins: Mapping[str, str]) -> Tuple[str, ...]:
    return tuple("{0}\n{1}".format(path, text) for path, text in drop_ins.items())


def _of_prefix(host: run.Host, prefix: str, version: int, shown: Mapping[str, Shown], lasting: bool) -> Target:
    """All units that begin with the prefix, also those that are yet to come."""
    drop_ins = policy_dropins.read(host, prefix) if _UNIT.fullmatch(prefix) else {}
    like = [each for unit, each in shown.items() if _type(unit) == _type(prefix)]
    governed = [each for each in like if each["LoadState"] == "loaded" and each["Id"].startswith(_stem(prefix))]
    in_force = all(_in_force(each, drop_ins) for each in governed)
    known = {name: next((each[name] for each in like if each[name]), "") for name in _PROPERTIES.values()}
    found = _bare(prefix, dict(workloads.identify(None), unit=prefix), None, version)
    return found._replace(
        stored=_stored(_assigned(drop_ins.values(), {}) if in_force else {}),
        abilities=_abilities(found, dict(known, Transient="no"), {}, None, lasting),
        kept=_kept(drop_ins),
        told={each["Id"]: _told_behind(host, prefix, each, lasting) for each in governed},
    )


def _told_behind(host: run.Host, prefix: str, shown: Shown, lasting: bool) -> FrozenSet[str]:
    """The settings that a unit of a prefix was told itself, so that the prefix's drop-in does not reach them."""
    names = policy_dropins.behind(host, prefix, _read_by_systemd(shown), lasting)
    found = {setting for setting, name in _PROPERTIES.items() if name in names}
    return frozenset(found | ({"oom_group"} if "oom_policy" in found else set()))


def _stem(unit: str) -> str:
    return unit.rpartition(".")[0]


def _type(unit: str) -> str:
    return unit.rpartition(".")[2]


# --- what can be done ------------------------------------------------------------------------------------------------

_SYSTEMD_ITSELF = "It holds systemd itself, and with it the host; leave it without limits."
_NO_UNIT = "{unit} is no name of a unit."
_NOT_ON_V1 = "systemd sets no {setting} on cgroup v1; boot the host with cgroup v2."
_NO_FILE = "The kernel has no {setting} for this cgroup: it is too old, or does not account that (swapaccount=1)."
_NO_WORD = "systemd has no {name} for a unit of this type; give it to the services instead."
_NO_SCOPE_POLICY = "This systemd has no OOMPolicy for scopes (it came with 253); install a newer one."
_NO_SCOPE_SCORE = "The processes of a scope run before systemd has them; set oom_score_adjust where they are started."
_AT_CREATION = "It is transient, and gets {setting} only where it is made, as by systemd-run --property={name}=."
_NOT_LAST = "{path} sets {name} too, and systemd reads it behind the policy's drop-in; take it out there."
# The others have no effect there, but that systemd shows them (observed with 247).
_ON_V1 = ("memory_max", "oom_score_adjust")
# A process that runs keeps what it has (observed with 247 and 252); all else is live.
_AT_START = "oom_score_adjust"


def _abilities(
    target: Target, shown: Shown, later: Mapping[str, str], effective: Optional[Mapping[str, Any]], lasting: bool
) -> Dict[str, Ability]:
    """What can be done for a unit.

    :arg later: the drop-ins of others that win, by the property that they set.
    :arg effective: what its cgroup has; None: it has none, for it is a prefix.
    """
    unit, transient = target.identity, _is_transient(shown)
    how = "`systemctl set-property --runtime {0}`".format(unit) if transient else policy_dropins.path(unit, lasting)
    survives = Survives(not transient, None, lasting and not transient)
    found = {}
    for setting in SETTINGS:
        name = _PROPERTIES.get(setting, "OOMPolicy")
        sentence = _objection(target, setting, shown, effective) or (_NOT_LAST if name in later else None)
        found[setting] = Ability(None, setting != _AT_START, how, survives)
        if sentence:
            found[setting] = _refused(sentence.format(setting=setting, name=name, unit=unit, path=later.get(name)))
    return found


def _objection(target: Target, setting: str, shown: Shown, effective: Optional[Mapping[str, Any]]) -> Optional[str]:
    """Why a setting cannot be set for a unit, as a sentence with places to fill in; None: it can."""
    unit, scope = target.identity, _type(target.identity) == "scope"
    if unit == "init.scope":
        return _SYSTEMD_ITSELF
    if not _UNIT.fullmatch(unit):
        return _NO_UNIT
    if target.cgroup_version == 1 and setting not in _ON_V1:
        return _NOT_ON_V1
    if not shown[_PROPERTIES.get(setting, "OOMPolicy")]:
        return _NO_WORD if not scope else _NO_SCOPE_SCORE if setting == _AT_START else _NO_SCOPE_POLICY
    if _is_transient(shown) and setting not in SIZES:
        return _AT_CREATION
    in_a_file = setting in SIZES or setting == "oom_group"
    return _NO_FILE if effective is not None and in_a_file and setting not in effective else None


def _refused(sentence: str) -> Ability:
    return Ability(sentence, False, None, Survives(None, None, None))


def refusal(target: Target, wanted: Mapping[str, Any]) -> Optional[str]:
    """Why systemd cannot make exactly this of a unit, as a sentence; None where it can."""
    group, policy = wanted.get("oom_group"), wanted.get("oom_policy")
    if group is not None and policy is not None and group != (policy == _GROUP_KILL):
        return "systemd has one word for both, and oom_policy kill is oom_group true; give only one of them."
    return None


# --- changing --------------------------------------------------------------------------------------------------------


def before(target: Target, wanted: Mapping[str, Any]) -> Dict[str, Any]:
    """What ``undo`` needs, as plain data; to be kept before ``apply``."""
    if _TRANSIENT in target.kept:
        properties = {_PROPERTIES[each]: target.stored[each] for each in wanted if each in target.stored}
        return {"unit": target.identity, "drop_ins": {}, "properties": properties}
    texts: Dict[str, Optional[str]] = {policy_dropins.path(target.identity, each): None for each in (True, False)}
    for each in target.kept:
        path, _newline, text = each.partition("\n")
        texts[path] = text
    return {"unit": target.identity, "drop_ins": texts, "properties": {}}


def apply(host: run.Host, target: Target, wanted: Mapping[str, Any], lasting: bool) -> None:
    """Write the unit's drop-in, which ``finish`` puts into force; or set a transient unit's properties.

    :arg lasting: whether it outlives a restart of the host. Raises ManagerError, VanishedError.
    """
    sentence = refusal(target, wanted)
    if sentence:
        raise ManagerError(sentence)
    told = _told(target, wanted)
    if _TRANSIENT in target.kept:
        policy_systemctl.set_properties(host, target.identity, told, lasting=False)
    else:
        texts = {name: policy_systemctl.text(value) for name, value in told.items()}
        policy_dropins.write(host, target.identity, texts, lasting)


def _told(target: Target, wanted: Mapping[str, Any]) -> Dict[str, Any]:
    """The settings in systemd's words."""
    found = {_PROPERTIES[setting]: value for setting, value in wanted.items() if setting in _PROPERTIES}
    if "oom_group" in wanted and "oom_policy" not in wanted:
        found["OOMPolicy"] = _GROUP_KILL if wanted["oom_group"] else _other_policy(target)
    return found


def _other_policy(target: Target) -> str:
    """The policy that a unit has without a group kill: its present one, unless that is just it."""
    present = target.stored.get("oom_policy", _GROUP_KILL)
    usual = _USUAL_POLICY.get(_type(target.identity), _DELEGATED_POLICY)
    return str(usual if present == _GROUP_KILL else present)


def undo(host: run.Host, before: Dict[str, Any]) -> None:
    """Give a unit back what it had. Raises ManagerError, VanishedError."""
    if before["properties"]:
        policy_systemctl.set_properties(host, before["unit"], before["properties"], lasting=False)
    policy_dropins.restore(host, before["drop_ins"])


def finish(host: run.Host, units: Sequence[str]) -> Dict[str, str]:
    """Put the drop-ins of these units and prefixes into force, also for units that run.

    systemd 252 gives the kernel with its reload what it has read, 257 does not: there it is made to.

    :returns: of units and prefixes for which it could not be made to, why. Raises ManagerError.
    """
    policy_systemctl.reload(host)
    names = [_all_of(unit) if policy_dropins.is_prefix(unit) else unit for unit in units]
    shown = policy_systemctl.show(host, names, _ASKED + ("Slice",))
    behind = _await_kernel(host, shown)
    try:
        policy_systemctl.realize(host, {each["Slice"] for each in behind.values()})
    except ManagerError as error:
        still = _behind(host, behind)
        note = _NOT_REALIZED.format(error.sentence)
        return {unit: note for unit in units if any(_is_of(unit, each) for each in still)}
    return {}


_NOT_REALIZED = "systemd has read the drop-in, and would not give it to the kernel before the next start: {0}"


def _await_kernel(host: run.Host, shown: Mapping[str, Shown]) -> Mapping[str, Shown]:
    """The units that are behind still when systemd has had time; it gives some values away after it has answered."""
    deadline = time.monotonic() + _GRACE_SECONDS
    behind = _behind(host, shown)
    while behind and time.monotonic() < deadline:
        time.sleep(_POLL_SECONDS)
        behind = _behind(host, behind)
    return behind


def _behind(host: run.Host, shown: Mapping[str, Shown]) -> Dict[str, Shown]:
    """The units for which the kernel does not have what systemd has read."""
    return {unit: each for unit, each in shown.items() if each["ControlGroup"] and _differs(host, each)}


def _differs(host: run.Host, shown: Shown) -> bool:
    cgroup = policy_kernel.read(host, shown["ControlGroup"])
    if cgroup is None or cgroup["cgroup_version"] == 1:
        return False
    stored, page = _stored(shown), counters.page_size(host) or 1
    return any(
        name in stored and not _same(stored[name], value, page if name in SIZES else 1)
        for name, value in policy_kernel.settings(cgroup).items()
    )


def _same(stored: Any, effective: Any, page: int) -> bool:
    """Whether both are the same number of whole pages, which is what the kernel takes; None: no limit."""
    if stored is None or effective is None:
        return stored is effective
    return bool(stored // page == effective // page)


def _is_of(name: str, unit: str) -> bool:
    """Whether a unit is the one of this name, or one of this prefix."""
    if policy_dropins.is_prefix(name):
        return unit.startswith(_stem(name)) and _type(unit) == _type(name)
    return unit == name

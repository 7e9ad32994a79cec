# Copyright (c) 2026 oom.forensics contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The types that a memory policy is made of. Private to this collection. Pure: no file, no clock, no process.

A mapping of settings has the names of SETTINGS as keys. A key that is not there: not known, or not asked for.
"""

from typing import Any, Dict, FrozenSet, List, Mapping, NamedTuple, Optional, Tuple

LIMITS = ("memory_max", "memory_high", "memory_swap_max")  # bytes; None: no limit
PROTECTIONS = ("memory_low", "memory_min")  # bytes, 0 where there is none; None: all of it is protected
SIZES = LIMITS + PROTECTIONS
# oom_group: a switch. oom_policy: continue, stop or kill. oom_score_adjust: -1000 to 1000.
SETTINGS = SIZES + ("oom_group", "oom_policy", "oom_score_adjust")

Settings = Mapping[str, Any]


class PolicyError(Exception):
    """A policy that cannot be used; the message is one sentence, or the clause of one, for the user."""


class Survives(NamedTuple):
    """What a change outlives. None: there is no such thing, as a unit has no engine."""

    workload_restart: Optional[bool]
    engine_restart: Optional[bool]
    host_restart: Optional[bool]


class Ability(NamedTuple):
    """Whether and how the manager of a target changes one setting.

    :ivar refusal: why it cannot, as a sentence that says what to do instead; None where it can.
    :ivar live: the running workload has the new value at once; else it has it after its next start.
    :ivar how: the way in words: `docker update`, or the file that is written.
    """

    refusal: Optional[str]
    live: bool
    how: Optional[str]
    survives: Survives


class Usage(NamedTuple):
    """What a workload uses, in bytes, and how many of its processes the kernel has killed; None: not known."""

    current: Optional[int]
    peak: Optional[int]
    reclaimable: Optional[int]
    kills: Optional[int]
    swap: Optional[int] = None


class Target(NamedTuple):
    """One workload that a policy may govern, as it was found.

    :ivar manager: who keeps its settings: `docker`, `podman`, `systemd`, or `none`.
    :ivar identity: what the manager calls it: a container's whole id, a unit's name. Unique for the manager.
    :ivar label: what people call it.
    :ivar workload: as of `_oom/workload.py`, with the names that the engines gave.
    :ivar path: its cgroup, as the kernel logs it; None for a prefix drop-in, which is for units yet to come.
    :ivar unit: the systemd unit that the cgroup is, where it is one.
    :ivar stored: what the manager has been told.
    :ivar effective: what the kernel applies. A setting that it does not know has no key.
    :ivar abilities: of each setting in SETTINGS.
    :ivar critical: a daemon that the host cannot do without, or a slice with such a daemon in it.
    :ivar infrastructure: the process that only holds the namespaces of a pod.
    :ivar told: of a prefix drop-in, by running unit: the settings that something behind it sets for that unit.
    :ivar kept: options of the manager's command that a change has to give again, so that it resets nothing else;
        of a unit, the drop-ins that a policy already has there.
    """

    manager: str
    identity: str
    label: str
    workload: Dict[str, Any]
    path: Optional[str]
    unit: Optional[str]
    cgroup_version: int
    stored: Dict[str, Any]
    effective: Dict[str, Any]
    usage: Usage
    abilities: Dict[str, Ability]
    critical: bool
    infrastructure: bool
    kept: Tuple[str, ...] = ()
    told: Mapping[str, FrozenSet[str]] = {}


class Declared(NamedTuple):
    """What a run of a policy has set: the value, when that run was (ISO 8601), and what the rule said."""

    value: Any
    time: str
    expression: str


class Risk(NamedTuple):
    """A reason not to make a change: its name, which `force` takes, and a sentence with the numbers."""

    name: str
    message: str
    forced: bool


class Step(NamedTuple):
    """One setting of one target.

    :ivar declared: what the last run of a policy set it to, where one did; with `has_declared`.
    :ivar stored: what the manager has, `effective` what the kernel has; None also where it is not known.
    :ivar wanted: what the rule says, resolved.
    :ivar expression: what the rule says, as it was written.
    :ivar changes: whether something has to be done.
    :ivar drifted: somebody undid what the last run had set.
    :ivar ability: how it would be done.
    """

    setting: str
    declared: Any
    has_declared: bool
    stored: Any
    effective: Any
    wanted: Any
    expression: str
    changes: bool
    drifted: bool
    ability: Ability


# What becomes of a change.
OUTCOMES = (
    "unchanged",  # everything is as wanted
    "planned",  # it would be made
    "applied",  # it was made, and the kernel confirms it
    "pending",  # it is stored, and the workload has it after its next start
    "refused",  # a risk, or something that cannot be set; nothing of it was done
    "exempt",  # a rule protects the workload
    "vanished",  # the workload ended meanwhile
    "failed",  # the manager refused, or the kernel has another value afterwards
    "rolled_back",  # the previous values are back
)


class Change(NamedTuple):
    """What a policy does to one target. `message` says it in a sentence."""

    target: Target
    rule: str
    steps: Tuple[Step, ...]
    risks: Tuple[Risk, ...]
    left_out: Tuple[str, ...]
    outcome: str
    message: str


class Planned(NamedTuple):
    """A plan: changes in the order of the targets, and the sums of the limits before and after it, in bytes.

    :ivar unmatched: how many targets no rule is for.
    :ivar idle: names of the rules that matched nothing.
    """

    changes: List[Change]
    unmatched: int
    idle: Tuple[str, ...]
    limits_before: int
    limits_after: int

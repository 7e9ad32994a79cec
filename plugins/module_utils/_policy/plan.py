# Copyright (c) 2026 oom.forensics contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The plan of a policy: rules and targets in, changes out. Private to this collection. Pure.

The change of one target is made as a whole or not at all. Each change here is unchanged, planned, pending, refused or
exempt; only what is planned is to be applied.
"""

import itertools
from typing import Any, Callable, Dict, Iterable, Iterator, List, Mapping, NamedTuple, Optional, Sequence, Tuple

from . import messages, prefixes, risks, rules, sizes
from .model import SETTINGS, SIZES, Change, Declared, Planned, PolicyError, Risk, Step, Target

# They compare all that they are given.
_ENGINES = ("docker", "podman")
_SWAP_ALONE = (
    "cgroup v1 has one number for memory and swap together, so swap has no limit where memory has none; "
    "set memory_max in the same rule"
)
_LOW_ABOVE_MAX = "{0} takes no memory_low above memory_max, and it would be; set both in the same rule"
_SOFT_LIMIT = "on cgroup v1 memory_low is a soft limit, which only acts below memory_max; write a smaller size"

# By manager, identity and setting.
_Declarations = Mapping[Tuple[str, str, str], Declared]
# Why the manager of a target does not take just these values together, as a sentence; None: it does.
_Refuse = Callable[[Target, Mapping[str, Any]], Optional[str]]


class HostFacts(NamedTuple):
    """What a plan has to know of the host, in bytes: its memory (MemTotal), and how much of it no limit may use."""

    memory_total: int
    page_size: int
    reserve: int


class _Wishes(NamedTuple):
    """What the plan was asked for, beside the rules."""

    host: HostFacts
    force: Sequence[str]
    skip: bool
    declared: _Declarations
    refuse: _Refuse


class _Draft(NamedTuple):
    """A change that has no message yet, and what goes into that."""

    change: Change
    notes: messages.Notes


def plan(
    policy: rules.Policy,
    targets: Sequence[Target],
    host: HostFacts,
    force: Iterable[str] = (),
    unsupported: str = "fail",
    declared: Optional[_Declarations] = None,
    uids: Optional[Mapping[str, int]] = None,
    refuse: _Refuse = lambda target, wanted: None,
) -> Planned:
    """What a policy changes of the targets.

    :arg targets: each cgroup at most once.
    :arg force: names of the risks to take, of `risks.NAMES`.
    :arg unsupported: what becomes of a setting that cannot be set, or not be told: with `fail` the target's whole
        change is refused, with `skip` that setting is left out.
    :arg declared: by manager, identity and setting: what a run set last.
    :arg uids: of those names in `policy.users` that the host knows.
    :arg refuse: what the managers say of all values of a change together.
    """
    wishes = _Wishes(host, tuple(force), unsupported == "skip", declared or {}, refuse)
    governed = [(target, rules.matching(policy, target, uids or {})) for target in targets]
    drafts = [_draft(target, rule, wishes) for target, rule in governed if rule is not None]
    drafts = [_for_all_units(draft, targets, drafts, wishes) for draft in drafts]
    limits = {target.path: risks.now(target).get("memory_max") for target in targets if target.path is not None}
    drafts, after = _within_memory(drafts, targets, limits, wishes)
    used = {draft.change.rule for draft in drafts}
    return Planned(
        [_told(draft) for draft in drafts],
        len(targets) - len(drafts),
        tuple(rule.name for rule in policy.rules if rule.name not in used),
        risks.sums(limits).total,
        after,
    )


def _told(draft: _Draft) -> Change:
    if draft.change.outcome == "exempt":
        return draft.change._replace(message=messages.exempt(draft.change))
    return draft.change._replace(message=messages.message(draft.change, draft.notes))


# --- one target


def _draft(target: Target, rule: rules.Rule, wishes: _Wishes) -> _Draft:
    if rule.exempt or _is_pause(target):
        return _Draft(Change(target, rule.name, (), (), (), "exempt", ""), messages.Notes())
    wanted, refusals = _wanted(target, rule, wishes)
    if wishes.skip:
        wanted = {setting: value for setting, value in wanted.items() if setting not in refusals}
    wanted.update(_following(target, wanted))
    steps = tuple(_step(target, rule, setting, wanted[setting], wishes) for setting in SETTINGS if setting in wanted)
    together = _together(target, steps, {} if wishes.skip else refusals, wishes)
    notes = messages.Notes(
        together,
        tuple((step, wishes.declared[_key(target, step.setting)].time) for step in steps if step.drifted),
        tuple(step for step in steps if _waits(target, step, wishes.host)),
    )
    left_out = messages.refusals(refusals) if wishes.skip else ()
    change = Change(target, rule.name, steps, risks.of_change(target, steps, wishes.force), left_out, "", "")
    return _decided(_Draft(change, notes))


def _together(target: Target, steps: Iterable[Step], refusals: Mapping[str, str], wishes: _Wishes) -> Mapping[str, str]:
    """Why the change as a whole cannot be made, by the settings to blame."""
    changed = {step.setting: step.wanted for step in steps if step.changes}
    sentence = wishes.refuse(target, changed) if changed and not refusals else None
    return dict.fromkeys(changed, sentence) if sentence else refusals


def _for_all_units(draft: _Draft, targets: Sequence[Target], drafts: Sequence[_Draft], wishes: _Wishes) -> _Draft:
    """A draft for a prefix with the risks of the units that run; any other as it is."""
    if draft.change.target.path is not None:
        return draft
    changes = [each.change for each in drafts]
    exempt = {
        each.target.path: each.rule for each in changes if each.outcome == "exempt" and not _is_pause(each.target)
    }
    found = prefixes.reached(draft.change, targets, changes)
    said = [risk.name for risk in draft.change.risks]
    risky = prefixes.risks_of(draft.change, found, exempt, wishes.force)
    more = tuple(risk for risk in risky if risk.name not in said)
    return _decided(draft._replace(change=draft.change._replace(risks=draft.change.risks + more)))


def _decided(draft: _Draft) -> _Draft:
    change, notes = draft
    if notes.refusals or any(not risk.forced for risk in change.risks):
        outcome = "refused"
    elif any(step.changes for step in change.steps):
        outcome = "planned"
    else:
        outcome = "pending" if notes.waiting else "unchanged"
    return _Draft(change._replace(outcome=outcome), notes)


def _is_pause(target: Target) -> bool:
    """Whether it only holds the namespaces of a pod, and nobody here keeps its settings."""
    return target.infrastructure and target.manager == "none"


def _wanted(target: Target, rule: rules.Rule, wishes: _Wishes) -> Tuple[Dict[str, Any], Dict[str, str]]:
    """By setting: the values that the rule wants, and why one of them cannot be set or not even be told."""
    wanted: Dict[str, Any] = {}
    refusals: Dict[str, str] = {}
    for setting in SETTINGS:  # memory_max first: others may be shares of it
        if setting not in rule.settings:
            continue
        try:
            base = {key: value for key, value in wanted.items() if key not in refusals}
            wanted[setting] = _resolved(target, setting, rule.settings[setting], base, wishes)
        except PolicyError as error:
            refusals[setting] = str(error)
            continue
        refusal = target.abilities[setting].refusal
        if refusal is not None and _has_to_change(target, setting, wanted[setting], wishes.host):
            refusals[setting] = refusal
    refusals.update(_conflicts(target, {key: value for key, value in wanted.items() if key not in refusals}))
    return wanted, refusals


def _resolved(target: Target, setting: str, asked: Any, wanted: Mapping[str, Any], wishes: _Wishes) -> Any:
    if not isinstance(asked, sizes.Size):
        return asked
    host, settings = wishes.host, dict(risks.now(target), **wanted)
    facts = sizes.Facts(host.memory_total, host.page_size, target.usage.peak, settings)
    declared = wishes.declared.get(_key(target, setting))
    if declared is not None and declared.expression == asked.expression and sizes.settled(asked, declared.value, facts):
        return declared.value
    return sizes.resolve(asked, setting, facts)


def _conflicts(target: Target, wanted: Mapping[str, Any]) -> Iterator[Tuple[str, str]]:
    """What does not go together with the rest of what the manager has been told: by setting, why."""
    told = dict(target.effective, **target.stored)
    told.update(wanted)
    limit, low = told.get("memory_max"), told.get("memory_low", 0)
    no_room = low is None or (limit is not None and low >= limit)
    if target.cgroup_version == 1 and wanted.get("memory_low", 0) != 0 and no_room:
        yield "memory_low", _SOFT_LIMIT
    if target.manager not in _ENGINES:
        return
    unlimited = target.cgroup_version == 1 and "memory_max" in told and limit is None
    if unlimited and wanted.get("memory_swap_max") is not None:
        yield "memory_swap_max", _SWAP_ALONE
    changed = next((setting for setting in ("memory_low", "memory_max") if setting in wanted), None)
    if changed and limit is not None and (low is None or low > limit):
        yield changed, _LOW_ABOVE_MAX.format(target.manager)


def _following(target: Target, wanted: Mapping[str, Any]) -> Dict[str, Any]:
    """A limit of swap cannot stay on cgroup v1 where that of memory goes."""
    engine = target.manager in _ENGINES and target.cgroup_version == 1
    if not engine or "memory_swap_max" in wanted or wanted.get("memory_max", 0) is not None:
        return {}
    limited = risks.now(target).get("memory_swap_max") is not None
    return {"memory_swap_max": None} if limited and target.abilities["memory_swap_max"].refusal is None else {}


# --- one setting


def _step(target: Target, rule: rules.Rule, setting: str, wanted: Any, wishes: _Wishes) -> Step:
    key = _key(target, setting)
    declared = wishes.declared[key].value if key in wishes.declared else None
    changes = _has_to_change(target, setting, wanted, wishes.host)
    as_declared = key in wishes.declared and not _differ(setting, declared, wanted, wishes.host)
    return Step(
        setting,
        declared,
        key in wishes.declared,
        target.stored.get(setting),
        target.effective.get(setting),
        wanted,
        rule.expressions.get(setting, "max, with memory_max"),
        changes,
        as_declared and changes,
        target.abilities[setting],
    )


def _key(target: Target, setting: str) -> Tuple[str, str, str]:
    return target.manager, target.identity, setting


def _differ(setting: str, one: Any, other: Any, host: HostFacts) -> bool:
    """Whether two values of a setting are not the same to the kernel, which rounds sizes down to pages."""
    return bool(_rounded(setting, one, host) != _rounded(setting, other, host))


def _rounded(setting: str, value: Any, host: HostFacts) -> Any:
    return value - value % host.page_size if setting in SIZES and value is not None else value


def _has_to_change(target: Target, setting: str, wanted: Any, host: HostFacts) -> bool:
    """Whether anybody who knows the setting has another value, or nobody knows it.

    Where a change does not reach the running workload, only what its manager has been told counts; where no manager
    keeps it, as Podman 4.3 goes on telling what a container was made with, only what the kernel has.
    """
    ability = target.abilities[setting]
    places = [place for place in (target.stored, target.effective) if setting in place]
    if ability.refusal is None and not ability.live:
        places = places[:1]
    elif ability.survives.workload_restart is False:
        places = places[-1:]
    return not places or any(_differ(setting, place[setting], wanted, host) for place in places)


def _waits(target: Target, step: Step, host: HostFacts) -> bool:
    """Whether the manager has been told, and the kernel has another value until the next start."""
    known = step.setting in target.effective
    return known and not step.changes and _differ(step.setting, step.effective, step.wanted, host)


# --- all targets together

# Of cgroups by path; None: no limit.
_Limits = List[Tuple[str, Optional[int]]]


def _within_memory(
    drafts: List[_Draft], targets: Sequence[Target], limits: Mapping[str, Optional[int]], wishes: _Wishes
) -> Tuple[List[_Draft], int]:
    """The drafts, those refused that make the limits add up to more than fits; and that sum, in bytes.

    Without what is refused, limits below it may count that did not: so again, until nothing more is refused.
    """
    host, forced = wishes.host, risks.LIMITS_EXCEED_MEMORY in wishes.force
    before = risks.sums(limits)
    while True:
        new = [_new_limits(draft.change, targets, drafts) for draft in drafts]
        after = risks.sums(dict(limits, **dict(itertools.chain.from_iterable(new))))
        adding = [_adds(draft.change, each, before, after) for draft, each in zip(drafts, new)]
        if after.total <= host.memory_total - host.reserve or not any(adding):
            return drafts, after.total
        risk = risks.limits_exceed_memory(after.total, host.memory_total, host.reserve, forced)
        drafts = [_risking(draft, risk) if adds else draft for draft, adds in zip(drafts, adding)]
        # What a refused change would have given a unit itself holds no longer against a prefix's drop-in.
        drafts = [_for_all_units(draft, targets, drafts, wishes) for draft in drafts]


def _new_limits(change: Change, targets: Sequence[Target], drafts: Iterable[_Draft]) -> _Limits:
    """What a change that is to be made, or waits for a start, limits each cgroup to that it is for."""
    if change.outcome not in ("planned", "pending"):
        return []
    path = change.target.path
    if path is not None:
        return [(path, step.wanted) for step in change.steps if step.setting == "memory_max"]
    found = prefixes.reached(change, targets, [draft.change for draft in drafts])
    return [(each.target.path or "", each.settings["memory_max"]) for each in found if "memory_max" in each.settings]


def _adds(change: Change, limits: _Limits, before: risks.Sums, after: risks.Sums) -> bool:
    """Whether a change that is to be made makes the sum larger, and that is not yet said of it."""
    if change.outcome != "planned" or not any(step.setting == "memory_max" and step.changes for step in change.steps):
        return False
    said = any(risk.name == risks.LIMITS_EXCEED_MEMORY for risk in change.risks)
    return not said and any(after.exceeds(path, before) for path, _limit in limits)


def _risking(draft: _Draft, risk: Risk) -> _Draft:
    change = draft.change._replace(risks=draft.change.risks + (risk,))
    return _decided(_Draft(change, draft.notes))

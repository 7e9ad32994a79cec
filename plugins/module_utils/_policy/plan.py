# Copyright (c) 2026 oom.forensics contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The plan of a policy: rules and targets in, changes out. Private to this collection. Pure.

The change of one target is made as a whole or not at all. Each change here is unchanged, planned, pending, refused or
exempt; only what is planned is to be applied.
"""

from typing import Any, Dict, Iterable, Iterator, List, Mapping, NamedTuple, Optional, Sequence, Tuple

from . import messages, risks, rules, sizes
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
) -> Planned:
    """What a policy changes of the targets.

    :arg targets: each cgroup at most once.
    :arg force: names of the risks to take, of `risks.NAMES`.
    :arg unsupported: what becomes of a setting that cannot be set, or not be told: with `fail` the target's whole
        change is refused, with `skip` that setting is left out.
    :arg declared: by manager, identity and setting: what a run set last.
    :arg uids: of those names in `policy.users` that the host knows.
    """
    wishes = _Wishes(host, tuple(force), unsupported == "skip", declared or {})
    governed = [(target, rules.matching(policy, target, uids or {})) for target in targets]
    drafts = [_draft(target, rule, wishes) for target, rule in governed if rule is not None]
    limits = {target.path: risks.now(target).get("memory_max") for target in targets if target.path is not None}
    before = risks.sums(limits)
    drafts, after = _within_memory(drafts, limits, before, wishes)
    used = {draft.change.rule for draft in drafts}
    return Planned(
        [_told(draft) for draft in drafts],
        len(targets) - len(drafts),
        tuple(rule.name for rule in policy.rules if rule.name not in used),
        before.total,
        after,
    )


def _told(draft: _Draft) -> Change:
    if draft.change.outcome == "exempt":
        return draft.change._replace(message=messages.exempt(draft.change))
    return draft.change._replace(message=messages.message(draft.change, draft.notes))


# --- one target


def _draft(target: Target, rule: rules.Rule, wishes: _Wishes) -> _Draft:
    if rule.exempt or (target.infrastructure and target.manager == "none"):
        return _Draft(Change(target, rule.name, (), (), (), "exempt", ""), messages.Notes())
    wanted, refusals = _wanted(target, rule, wishes)
    if wishes.skip:
        wanted = {setting: value for setting, value in wanted.items() if setting not in refusals}
    wanted.update(_following(target, wanted))
    steps = tuple(_step(target, rule, setting, wanted[setting], wishes) for setting in SETTINGS if setting in wanted)
    notes = messages.Notes(
        {} if wishes.skip else refusals,
        tuple((step, wishes.declared[_key(target, step.setting)].time) for step in steps if step.drifted),
        tuple(step for step in steps if _waits(target, step, wishes.host)),
    )
    left_out = messages.refusals(refusals) if wishes.skip else ()
    change = Change(target, rule.name, steps, risks.of_change(target, steps, wishes.force), left_out, "", "")
    return _decided(_Draft(change, notes))


def _decided(draft: _Draft) -> _Draft:
    change, notes = draft
    if notes.refusals or any(not risk.forced for risk in change.risks):
        outcome = "refused"
    elif any(step.changes for step in change.steps):
        outcome = "planned"
    else:
        outcome = "pending" if notes.waiting else "unchanged"
    return _Draft(change._replace(outcome=outcome), notes)


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


def _within_memory(
    drafts: List[_Draft], limits: Mapping[str, Optional[int]], before: risks.Sums, wishes: _Wishes
) -> Tuple[List[_Draft], int]:
    """The drafts, those refused that make the limits add up to more than fits; and that sum, in bytes.

    Without what is refused, limits below it may count that did not: so again, until nothing more is refused.
    """
    host, forced = wishes.host, risks.LIMITS_EXCEED_MEMORY in wishes.force
    while True:
        after = risks.sums(dict(limits, **_limits_after(drafts)))
        adding = [_adds(draft.change, before, after) for draft in drafts]
        if after.total <= host.memory_total - host.reserve or not any(adding):
            return drafts, after.total
        risk = risks.limits_exceed_memory(after.total, host.memory_total, host.reserve, forced)
        drafts = [_risking(draft, risk) if adds else draft for draft, adds in zip(drafts, adding)]


def _limits_after(drafts: Iterable[_Draft]) -> Dict[str, Optional[int]]:
    changes = (draft.change for draft in drafts if draft.change.outcome in ("planned", "pending"))
    return {
        change.target.path: step.wanted
        for change in changes
        for step in change.steps
        if step.setting == "memory_max" and change.target.path is not None
    }


def _adds(change: Change, before: risks.Sums, after: risks.Sums) -> bool:
    """Whether a change that is to be made makes the sum larger, and that is not yet said of it."""
    path = change.target.path
    if change.outcome != "planned" or path is None:
        return False
    if not any(step.setting == "memory_max" and step.changes for step in change.steps):
        return False
    said = any(risk.name == risks.LIMITS_EXCEED_MEMORY for risk in change.risks)
    return not said and after.exceeds(path, before)


def _risking(draft: _Draft, risk: Risk) -> _Draft:
    change = draft.change._replace(risks=draft.change.risks + (risk,))
    return _decided(_Draft(change, draft.notes))

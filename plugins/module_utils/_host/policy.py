# Copyright (c) 2026 oom.forensics contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The way of a memory policy: survey, plan, record, apply, read back; roll back; verify. Private to this collection.

Nothing is changed that was not planned as a whole before, and written down right before. What a manager was told is
believed when the kernel has it.
"""

import contextlib
import functools
from typing import Any, Dict, List, Mapping, NamedTuple, Optional, Sequence

from .._policy import plan, rules, sizes
from .._policy.model import Change, Step, Target
from . import counters, hierarchies, policy_lock, policy_record, policy_rollback, policy_survey, policy_watch, run
from . import policy_work as work
from .coverage import Unreadable
from .policy_calls import ManagerError, VanishedError
from .policy_record import Entry, Run, Store, Writer
from .policy_work import MANAGERS, MOST_NAMED, Answer, Became, Order, PolicyFailure, interrupted, key_of


class Request(NamedTuple):
    """What is asked for.

    :ivar reserve: memory that the sum of the limits leaves free, as of ``sizes.reserve``.
    :ivar force: names of risks to take.
    :ivar refused: `fail`: one refused change, and nothing is changed; `skip`.
    :ivar unsupported: `fail`: a change is refused as a whole if a part of it cannot be made; `skip`: without that part.
    :ivar lasting: whether changes of systemd units outlive a restart.
    :ivar check: change nothing, and write nothing.
    """

    policy: rules.Policy
    reserve: Any = "10%"
    force: Sequence[str] = ()
    refused: str = "fail"
    unsupported: str = "fail"
    lasting: bool = True
    store: Store = Store(run.Host())
    lock_timeout: float = 60
    check: bool = False


# --- plan -----------------------------------------------------------------------------------------------------------


def planned(host: run.Host, request: Request) -> Answer:
    """What the policy would change now. Nothing is written. Raises PolicyError, PolicyFailure, RecordError."""
    runs = policy_record.read(request.store)
    going_on = policy_lock.busy(request.store)
    return _plan(host, request, runs)._replace(interrupted=None if going_on else interrupted(runs))


def _plan(host: run.Host, request: Request, runs: Sequence[Run]) -> Answer:
    total = run.pairs(host, "/proc/meminfo").get("MemTotal")
    page_size = counters.page_size(host)
    if total is None or page_size is None:
        raise PolicyFailure("/proc/meminfo does not say how much memory this host has; mount /proc and try again.")
    facts = plan.HostFacts(total * 1024, page_size, sizes.reserve(request.reserve, total * 1024))
    try:
        found = policy_survey.survey(host, request.policy.prefixes, request.lasting)
    except Unreadable as error:
        raise PolicyFailure(_unreadable(error)) from error
    made = plan.plan(
        request.policy,
        found.targets,
        facts,
        force=request.force,
        declared=policy_record.declared(request.store, runs),
        unsupported=request.unsupported,
        uids=policy_survey.uids(request.policy.users),
        refuse=_refused_by_manager,
    )
    return Answer(
        changes=made.changes,
        changed=False,
        last_run=runs[-1].id if runs else None,
        unmatched=made.unmatched,
        idle=made.idle,
        managers=found.managers,
        limits={
            "before_bytes": made.limits_before,
            "after_bytes": made.limits_after,
            "memory_total_bytes": facts.memory_total,
            "reserve_bytes": facts.reserve,
        },
    )


def _refused_by_manager(target: Target, wanted: Mapping[str, Any]) -> Optional[str]:
    manager = MANAGERS.get(target.manager)
    sentence: Optional[str] = manager.refusal(target, wanted) if manager else None
    return sentence


def _unreadable(error: Unreadable) -> str:
    return "{0}. {1}".format(error.error.rstrip("."), error.advice or "").strip()


# --- apply ----------------------------------------------------------------------------------------------------------


def applied(host: run.Host, request: Request) -> Answer:
    """Make the changes of the plan, and see that the kernel has them.

    One run at a time. A run that was interrupted goes on under its name, so that a rollback undoes all of it. Raises
    PolicyError, PolicyFailure, RecordError where nothing was done.
    """
    if request.check:
        answer = planned(host, request)
        failure = _refusal(answer.changes, request)
        return answer._replace(failure=failure, changed=not failure and any(map(_is_due, answer.changes)))
    with policy_lock.locked(request.store, request.lock_timeout):
        runs = policy_record.read(request.store)
        answer = _plan(host, request, runs)._replace(interrupted=interrupted(runs))
        failure = _refusal(answer.changes, request)
        if failure or not (answer.interrupted or any(map(_is_due, answer.changes))):
            return answer._replace(failure=failure)
        return _carry_out(host, request, policy_record.unfinished(runs), answer)


def _is_due(change: Change) -> bool:
    return change.outcome == "planned"


def _refusal(changes: Sequence[Change], request: Request) -> Optional[str]:
    return work.refusal(changes) if request.refused == "fail" else None


def _carry_out(host: run.Host, request: Request, unfinished: Optional[Run], answer: Answer) -> Answer:
    """Make the changes. The run stays unfinished where a signal, or a record that cannot be written, ends it early."""
    memory = hierarchies.find(host).memory
    due = [change for change in answer.changes if _is_due(change)]
    with work.signals() as caught, contextlib.closing(_writer(request.store, unfinished)) as writer:
        orders = [
            Order(key_of(change.target), functools.partial(_make, host, memory, writer, change, request.lasting))
            for change in due
        ]
        became, failure = work.do_all(orders, writer, caught)
        unforced = work.finish(host, became, unfinished)
        work.confirm(host, due, became)
        changes = work.told(answer.changes, became)
        made = _made_after_all(unfinished, changes)
        failure = failure or unforced or work.noted(writer, "finished", made)
    return answer._replace(
        changes=changes,
        changed=any(each.changed for each in became.values()),
        run=writer.id,
        failure=failure or work.complaint(changes, "failed"),
    )


def _writer(store: Store, unfinished: Optional[Run]) -> Writer:
    return policy_record.begin(store) if unfinished is None else policy_record.resume(store, unfinished)


def _made_after_all(unfinished: Optional[Run], changes: Sequence[Change]) -> List[int]:
    """The changes that a cut-off process had begun, and that are found to be as it wanted them; their numbers."""
    now = {
        key_of(each.target): {step.setting: step for step in each.steps} for each in changes if each.outcome in _HOLD
    }
    found = []
    for number, entry in enumerate(unfinished.entries if unfinished else ()):
        steps = now.get(entry.key, {})
        held = (name in steps and steps[name].wanted == row["wanted"] for name, row in entry.settings.items())
        if entry.status == "open" and all(held):
            found.append(number)
    return found


_HOLD = ("unchanged", "applied", "pending")


def _make(host: run.Host, memory: hierarchies.Tree, writer: Writer, change: Change, lasting: bool) -> Became:
    """Note what is about to be done, and do it. Raises RecordError."""
    target, manager = change.target, MANAGERS[change.target.manager]
    kills = policy_watch.kills(memory, target.path) if target.path else None
    number = writer.opened(_entry(change, manager.before(target, _wanted(change)), kills))
    try:
        manager.apply(host, target, _wanted(change), lasting)
    except VanishedError as error:
        return Became("vanished", str(error), changed=False, entry=number, status="gone")
    except ManagerError as error:
        return Became("failed", error.sentence)  # it may have been told a part: the entry stays open
    live = all(step.ability.live for step in change.steps if step.changes)
    return Became("applied" if live else "pending", entry=number, status="done")


def _wanted(change: Change) -> Dict[str, Any]:
    return {step.setting: step.wanted for step in change.steps if step.changes}


def _entry(change: Change, before: Dict[str, Any], kills: Optional[int]) -> Entry:
    target = change.target
    return Entry(
        manager=target.manager,
        identity=target.identity,
        label=target.label,
        path=target.path,
        rule=change.rule,
        who=dict({key: target.workload.get(key) for key in ("kind", "engine", "name")}, unit=target.unit),
        before=before,
        settings={
            step.setting: {
                "before": _before(target, step),
                "wanted": step.wanted,
                "expression": step.expression,
                "live": step.ability.live,
            }
            for step in change.steps
            if step.changes
        },
        kills=kills,
    )


def _before(target: Target, step: Step) -> Any:
    """What the kernel had, where the change reaches it at once; else what the manager had."""
    first, second = (target.effective, target.stored) if step.ability.live else (target.stored, target.effective)
    return first[step.setting] if step.setting in first else second.get(step.setting)


# --- verify ---------------------------------------------------------------------------------------------------------


def verified(
    host: run.Host, store: Store, identifier: Optional[str], window: float, max_pressure: Optional[float]
) -> Answer:
    """Watch what a run has changed; nothing is changed or written. Raises PolicyFailure, RecordError.

    :arg identifier: of the run; None: the last one.
    :arg window: seconds to watch.
    :arg max_pressure: percent, as of ``policy_watch.watch``.
    """
    runs = policy_record.read(store)
    found = policy_rollback.picked(runs, identifier)
    if found is None:
        raise PolicyFailure("No policy was applied on this host, so there is nothing to verify; apply one first.")
    if found.rolled_back:
        raise PolicyFailure("Run {0} was rolled back, so there is nothing to verify; apply one first.".format(found.id))
    try:
        watched = policy_watch.watch(host, found, window, max_pressure)
    except Unreadable as error:
        raise PolicyFailure(_unreadable(error)) from error
    failure = " ".join(row["message"] for row in watched["violations"][:MOST_NAMED]) or None
    return Answer([], changed=False, failure=failure, run=found.id, interrupted=interrupted(runs), watched=watched)

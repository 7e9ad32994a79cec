# Copyright (c) 2026 oom.forensics contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The way back: a recorded run is undone, the latest change first, and the kernel is read. Private."""

import contextlib
import fnmatch
import functools
import re
from typing import Any, Dict, Iterable, List, Mapping, NamedTuple, Optional, Sequence, Tuple

from .._policy import risks
from .._policy.model import Ability, Change, Risk, Step, Survives, Target, Usage
from .._policy.wording import listed
from . import policy_kernel, policy_lock, policy_record, run
from . import policy_work as work
from .policy_calls import ManagerError, VanishedError
from .policy_record import Entry, Run, Store
from .policy_work import MANAGERS, MOST_NAMED, Answer, Became, Key, Order, PolicyFailure, interrupted


class Wanted(NamedTuple):
    """What is to be rolled back.

    :ivar run: the id of a run; None: the last one. What was rolled back already is not done again, so that the run
        before it stays as it is.
    :ivar newer_than: only if it is another run than the one of this id, which was the last one once.
    :ivar force: names of risks to take.
    """

    run: Optional[str] = None
    newer_than: Optional[str] = None
    force: Sequence[str] = ()


def rolled_back(host: run.Host, store: Store, wanted: Wanted, lock_timeout: float, check: bool) -> Answer:
    """Give the workloads of a run back what they had before it.

    Goes on where an earlier rollback of the run ended early. A run that still goes on is waited for. Raises
    PolicyFailure, RecordError where nothing was done.
    """
    found, answer = _undoing(host, policy_record.read(store), wanted)
    if check or (found is None and not policy_lock.busy(store)):
        return answer
    with policy_lock.locked(store, lock_timeout):
        found, answer = _undoing(host, policy_record.read(store), wanted)
        if found is None or found.rolled_back or answer.failure:
            return answer
        return _undo_all(host, store, found, answer)


def _undoing(host: run.Host, runs: Sequence[Run], wanted: Wanted) -> Tuple[Optional[Run], Answer]:
    """The run to roll back, if there is one, and what that would change."""
    found = picked(runs, wanted.run)
    if found is None or found.id == wanted.newer_than:
        return None, Answer([], changed=False)
    _check_newer(runs, found)
    undoable = [entry for _number, entry in found.undoable()]
    cgroups = work.cgroups_by_path(host, policy_kernel.RECLAIMABLE) if undoable else {}
    changes = [_reverse(entry, cgroups, wanted.force) for entry in _merged(undoable)]
    failure = work.refusal(changes)
    changed = not failure and any(change.outcome == "planned" for change in changes)
    return found, Answer(changes, changed=changed, failure=failure, run=found.id, interrupted=interrupted(runs))


def picked(runs: Sequence[Run], identifier: Optional[str]) -> Optional[Run]:
    """The run of this id, else the last one, if there is any. Raises PolicyFailure where there is none of this id."""
    if identifier is None:
        return runs[-1] if runs else None
    for each in runs:
        if each.id == identifier:
            return each
    known = ", ".join(each.id for each in reversed(runs[-MOST_NAMED:])) or "none"
    raise PolicyFailure("There is no run {0} on this host; the newest ones are: {1}.".format(identifier, known))


def _check_newer(runs: Sequence[Run], found: Run) -> None:
    keys = {entry.key for _number, entry in found.undoable()}
    for each in reversed(runs[runs.index(found) + 1 :]):
        both = [entry.label for _number, entry in each.undoable() if entry.key in keys]
        if both:
            raise PolicyFailure(
                "Run {0} cannot be rolled back before run {1}, which is newer and has changed {2} too. Roll that one "
                "back first.".format(found.id, each.id, both[0])
            )


def _merged(undoable: Sequence[Entry]) -> List[Entry]:
    """One entry for each target, with the oldest of its values before; the latest entries come first."""
    found: Dict[Key, Entry] = {}
    for entry in undoable:
        later = found.get(entry.key, entry)
        found[entry.key] = entry._replace(settings=dict(later.settings, **entry.settings))
    return list(found.values())


_Cgroups = Mapping[Optional[str], Dict[str, Any]]


def _reverse(entry: Entry, cgroups: _Cgroups, force: Sequence[str]) -> Change:
    """A recorded change, the other way round; ``cgroups`` are those of the host as they are now."""
    cgroup = cgroups.get(entry.path)
    target = _target(entry, cgroup)
    steps = tuple(_step(target, setting, row) for setting, row in entry.settings.items())
    found = next(filter(None, (_below_usage(each, steps, force) for each in _reached(entry, target, cgroups))), ())
    change = Change(target, entry.rule, steps, found, (), "planned", " ".join([_GETS_BACK] + _drift(steps)))
    if any(not risk.forced for risk in found):
        said = [_WOULD_GET_BACK] + [risk.message for risk in found] + _drift(steps) + [_FORCE_IT]
        return change._replace(outcome="refused", message=" ".join(said))
    if cgroup is None and entry.path is not None and entry.manager != _KEEPS_FILES:
        return change._replace(outcome="vanished", message=_HAS_ENDED)
    return change


def _reached(entry: Entry, target: Target, cgroups: _Cgroups) -> List[Target]:
    """The target itself; of a prefix the units that run."""
    if entry.path is not None:
        return [target]
    pattern = re.compile(fnmatch.translate("*/{0}?*.{2}".format(*entry.identity.rpartition("."))))
    return [_target(entry, cgroup) for path, cgroup in cgroups.items() if path and pattern.match(path)]


def _below_usage(target: Target, steps: Sequence[Step], force: Sequence[str]) -> Tuple[Risk, ...]:
    """What is in use now would be killed. To be above the peak of what is watched is the policy's concern."""
    return tuple(risk for risk in risks.of_change(target, steps, force) if risk.name == _BELOW_USAGE)


_BELOW_USAGE = "below_usage"
# Its drop-ins are there, and are to be taken back, also where the unit does not run.
_KEEPS_FILES = "systemd"
_GETS_BACK = "It gets back what it had before the run."
_WOULD_GET_BACK = "It would get back what it had before the run."
_FORCE_IT = "Force below_usage, or wait until it uses less."
_HAS_ENDED = "It has ended since."


def _target(entry: Entry, cgroup: Optional[Dict[str, Any]]) -> Target:
    return Target(
        manager=entry.manager,
        identity=entry.identity,
        label=entry.label,
        workload={key: entry.who.get(key) for key in ("kind", "engine", "name")},
        path=entry.path,
        unit=entry.who.get("unit"),
        cgroup_version=0,
        stored={},
        effective=policy_kernel.settings(cgroup) if cgroup else {},
        usage=policy_kernel.usage(cgroup) if cgroup else Usage(None, None, None, None),
        abilities={},
        critical=False,
        infrastructure=False,
    )


def _step(target: Target, setting: str, row: Mapping[str, Any]) -> Step:
    known = setting in target.effective
    return Step(
        setting,
        declared=row["wanted"],
        has_declared=True,
        stored=None,
        effective=target.effective.get(setting),
        wanted=row["before"],
        expression="before the run",
        changes=True,
        drifted=known and row["live"] and target.effective[setting] not in (row["wanted"], row["before"]),
        # What the kernel does not tell now cannot be confirmed.
        ability=Ability(None, row["live"] and known, None, Survives(None, None, None)),
    )


def _drift(steps: Iterable[Step]) -> List[str]:
    told = [
        "{0} to {1}".format(step.setting, work.shown(step.setting, step.effective)) for step in steps if step.drifted
    ]
    return ["Somebody has since changed {0}.".format(listed(told))] if told else []


def _undo_all(host: run.Host, store: Store, found: Run, answer: Answer) -> Answer:
    with work.signals() as caught, contextlib.closing(policy_record.resume(store, found)) as writer:
        orders = [Order(entry.key, functools.partial(_undo, host, number, entry)) for number, entry in found.undoable()]
        became, failure = work.do_all(orders, writer, caught)
        unforced = work.finish(host, became, found)
        work.confirm(host, answer.changes, became)
        changes = work.told(answer.changes, became)
        failure = failure or work.complaint(changes, "failed") or unforced or work.noted(writer, "rolled_back")
    return answer._replace(changes=changes, changed=any(each.changed for each in became.values()), failure=failure)


def _undo(host: run.Host, number: int, entry: Entry) -> Became:
    try:
        MANAGERS[entry.manager].undo(host, entry.before)
    except VanishedError as error:
        return Became("vanished", str(error), changed=False, entry=number, status="gone")
    except ManagerError as error:
        return Became("failed", error.sentence)
    return Became("rolled_back", entry=number, status="undone")

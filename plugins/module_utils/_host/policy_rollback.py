# Copyright (c) 2026 oom.forensics contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The way back: a recorded run is undone, the latest change first, and the kernel is read. Private."""

import contextlib
import functools
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple

from .._policy.model import Ability, Change, Step, Survives, Target, Usage
from . import policy_record, run
from . import policy_work as work
from .policy_calls import ManagerError, VanishedError
from .policy_record import Entry, Run, Store
from .policy_work import MANAGERS, MOST_NAMED, Answer, Became, Key, Order, PolicyFailure, interrupted


def rolled_back(host: run.Host, store: Store, identifier: Optional[str], lock_timeout: float, check: bool) -> Answer:
    """Give the workloads of a run back what they had before it.

    :arg identifier: of the run; None: the last one. What was rolled back already is not done again, so that the run
        before it stays as it is.

    Goes on where an earlier rollback of the run ended early. Raises PolicyFailure, RecordError where nothing was done.
    """
    found, answer = _undoing(host, policy_record.read(store), identifier)
    if check or found is None:
        return answer
    with policy_record.locked(store, lock_timeout):
        found, answer = _undoing(host, policy_record.read(store), identifier)
        return _undo_all(host, store, found, answer) if found and not found.rolled_back else answer


def _undoing(host: run.Host, runs: Sequence[Run], identifier: Optional[str]) -> Tuple[Optional[Run], Answer]:
    """The run to roll back, if there is one, and what that would change."""
    found = picked(runs, identifier)
    if found is None:
        return None, Answer([], changed=False)
    _check_newer(runs, found)
    undoable = [entry for _number, entry in found.undoable()]
    settings = work.settings_by_path(host) if undoable else {}
    merged = _merged(undoable)
    changes = [_reverse(entry, settings.get(entry.path, {})) for entry in merged]
    return found, Answer(changes, changed=bool(changes), run=found.id, interrupted=interrupted(runs))


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


def _reverse(entry: Entry, effective: Mapping[str, Any]) -> Change:
    """A recorded change, the other way round."""
    target = Target(
        manager=entry.manager,
        identity=entry.identity,
        label=entry.label,
        workload={key: entry.who.get(key) for key in ("kind", "engine", "name")},
        path=entry.path,
        unit=entry.who.get("unit"),
        cgroup_version=0,
        stored={},
        effective=dict(effective),
        usage=Usage(None, None, None, None),
        abilities={},
        critical=False,
        infrastructure=False,
    )
    steps = tuple(
        Step(
            setting,
            declared=row["wanted"],
            has_declared=True,
            stored=None,
            effective=effective.get(setting),
            wanted=row["before"],
            expression="before the run",
            changes=True,
            drifted=False,
            # What the kernel does not tell now cannot be confirmed.
            ability=Ability(None, row["live"] and setting in effective, None, Survives(None, None, None)),
        )
        for setting, row in entry.settings.items()
    )
    return Change(target, entry.rule, steps, (), (), "planned", "It gets back what it had before the run.")


def _undo_all(host: run.Host, store: Store, found: Run, answer: Answer) -> Answer:
    with work.signals() as caught, contextlib.closing(policy_record.resume(store, found)) as writer:
        orders = [Order(entry.key, functools.partial(_undo, host, number, entry)) for number, entry in found.undoable()]
        became, failure = work.do_all(orders, writer, caught)
        work.finish(host, became)
        work.confirm(host, answer.changes, became)
        changes = work.told(answer.changes, became)
        failure = failure or work.complaint(changes, "failed") or work.noted(writer, "rolled_back")
    return answer._replace(changes=changes, changed=any(each.changed for each in became.values()), failure=failure)


def _undo(host: run.Host, number: int, entry: Entry) -> Became:
    try:
        MANAGERS[entry.manager].undo(host, entry.before)
    except VanishedError as error:
        return Became("vanished", str(error), changed=False, entry=number, status="gone")
    except ManagerError as error:
        return Became("failed", work.sentence(error))
    return Became("rolled_back", entry=number, status="undone")

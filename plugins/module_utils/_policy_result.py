# Copyright (c) 2026 oom.forensics contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The result of memory_policy: rows, a summary, a diff, all of it small enough. Private to this collection."""

import json
from typing import Any, Dict, List, Sequence, Tuple

from ._host.policy_work import Answer
from ._options import utf8
from ._policy.model import OUTCOMES, Change, Step

# What is left out first where not all fits; of everything else the last.
_DULLEST = ("unchanged", "exempt", "pending")
# What a change of these outcomes leaves behind, or would.
_CHANGING = ("planned", "applied", "pending", "rolled_back")
_NO_KILLS = dict.fromkeys(("counted", "in_changed", "elsewhere", "unattributed"))
_NO_LIMITS = dict.fromkeys(("before_bytes", "after_bytes", "memory_total_bytes", "reserve_bytes"))


def shape(answer: Answer, state: str, with_diff: bool, max_bytes: int) -> Dict[str, Any]:
    """The module's result, whatever the state: the same keys always. Its JSON has about ``max_bytes`` at most."""
    watched = answer.watched or {}
    result: Dict[str, Any] = {
        "changed": answer.changed,
        "msg": answer.failure or _summary(answer, state),
        "run": answer.run,
        "last_run": answer.last_run,
        "interrupted": answer.interrupted,
        "counts": _counts(answer),
        "idle_rules": list(answer.idle),
        "managers": list(answer.managers),
        "limits": answer.limits or dict(_NO_LIMITS),
        "kills": watched.get("kills") or dict(_NO_KILLS),
        "pressure": watched.get("pressure") or {"source": None, "highest": []},
        "violations": watched.get("violations", []),
        "ended": watched.get("ended", []),
        "seconds": watched.get("seconds"),
        "changes": [],
        "truncated": False,
    }
    rows = [utf8(_row(change)) for change in answer.changes]
    diffs = [utf8(_diff(change)) if with_diff and _is_different(change) else None for change in answer.changes]
    kept = _fitting(answer.changes, list(zip(rows, diffs)), max_bytes - len(json.dumps(utf8(result))))
    result.update(changes=[rows[place] for place in kept], truncated=len(kept) < len(rows))
    if with_diff:
        result["diff"] = [diffs[place] for place in kept if diffs[place]]
    return dict(utf8(result))


def _counts(answer: Answer) -> Dict[str, int]:
    found = {outcome: sum(change.outcome == outcome for change in answer.changes) for outcome in OUTCOMES}
    return dict(found, unmatched=answer.unmatched)


def _fitting(changes: Sequence[Change], parts: Sequence[Tuple[Any, Any]], room: int) -> List[int]:
    """Places of the changes that fit, in their order."""
    kept = []
    for place in sorted(range(len(changes)), key=lambda place: (_dullness(changes[place]), place)):
        size = sum(len(json.dumps(part)) + 2 for part in parts[place] if part is not None)
        if size <= room:
            room -= size
            kept.append(place)
    return sorted(kept)


def _dullness(change: Change) -> int:
    return len(_DULLEST) - _DULLEST.index(change.outcome) if change.outcome in _DULLEST else 0


# --- rows


def _row(change: Change) -> Dict[str, Any]:
    target = change.target
    return {
        "label": target.label,
        "manager": target.manager,
        "identity": target.identity,
        "kind": target.workload.get("kind"),
        "engine": target.workload.get("engine"),
        "name": target.workload.get("name"),
        "unit": target.unit,
        "path": target.path,
        "rule": change.rule,
        "outcome": change.outcome,
        "message": change.message,
        "risks": [dict(risk._asdict()) for risk in change.risks],
        "left_out": list(change.left_out),
        "steps": [_step_row(step) for step in change.steps],
    }


def _step_row(step: Step) -> Dict[str, Any]:
    names = ("setting", "declared", "stored", "effective", "wanted", "expression", "changes", "drifted")
    row = {name: getattr(step, name) for name in names}
    row.update(live=step.ability.live, how=step.ability.how, survives=dict(step.ability.survives._asdict()))
    return row


# --- the diff


def _is_different(change: Change) -> bool:
    return change.outcome in _CHANGING and any(step.changes for step in change.steps)


def _diff(change: Change) -> Dict[str, str]:
    header = _printable("{0} ({1})".format(change.target.label, change.target.path or change.target.identity))
    steps = [step for step in change.steps if step.changes]
    return {
        "before_header": header,
        "after_header": header,
        "before": "".join(_line(step, _found(change, step)) for step in steps),
        "after": "".join(_line(step, step.wanted) for step in steps),
    }


def _found(change: Change, step: Step) -> Any:
    """The value that is changed: the kernel's, where the change reaches it at once; else the manager's."""
    places = (change.target.effective, change.target.stored)
    found = (place[step.setting] for place in (places if step.ability.live else places[::-1]) if step.setting in place)
    return next(found, "unknown")


def _line(step: Step, value: Any) -> str:
    shown = "max" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
    return "{0}: {1}\n".format(step.setting, shown)


def _printable(text: str) -> str:
    """A name from the host for a terminal."""
    return "".join(each if each.isprintable() else "?" for each in text)


# --- the summary


def _summary(answer: Answer, state: str) -> str:
    if state == "verified":
        return "Watched run {0} for {1:g} s; nothing was killed, and pressure stayed in its bound.".format(
            answer.run, (answer.watched or {}).get("seconds", 0)
        )
    if state == "rolled_back" and not answer.changes:
        return "There is nothing to roll back."
    told = ["{0} {1}".format(count, outcome.replace("_", " ")) for outcome, count in _counts(answer).items() if count]
    return "Workloads: {0}.".format(", ".join(told) or "none")

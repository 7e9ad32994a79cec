# Copyright (c) 2026 oom.forensics contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is said of a planned change: which rule, from what to what, why not, and what to do. Private. Pure."""

from typing import Any, Dict, List, Mapping, NamedTuple, Tuple

from .model import PROTECTIONS, SIZES, Change, Step, Target
from .rules import DEFAULT
from .sizes import shown
from .wording import listed, sentence


class Notes(NamedTuple):
    """What a message says that a change does not hold.

    :ivar refusals: by setting, why it cannot be set.
    :ivar drifted: steps that somebody undid, and when the run was that had made them.
    :ivar waiting: steps that are stored, and hold from the next start on.
    """

    refusals: Mapping[str, str] = {}
    drifted: Tuple[Tuple[Step, str], ...] = ()
    waiting: Tuple[Step, ...] = ()


def message(change: Change, notes: Notes) -> str:
    """The sentences of one change, whose own `message` is not read."""
    moves = ", ".join(_move(change.target, step) for step in change.steps if step.changes)
    told = [moves + "."] if moves else []
    told += [_waiting(step) for step in notes.waiting]
    told += [_drift(step, time) for step, time in notes.drifted]
    told += _refused(change, notes)
    told = told or ["there is nothing else to do." if change.left_out else "everything is as wanted."]
    told += ["Forced: " + risk.message for risk in change.risks if risk.forced and change.outcome != "refused"]
    told += ["Left out: " + each for each in change.left_out]
    return "{0}: {1}".format(_who(change.rule), " ".join(told))


def exempt(change: Change) -> str:
    """The sentence of a target that is left as it is."""
    if change.target.infrastructure and change.target.manager == "none":
        return "It only holds the namespaces of a pod, and nothing here keeps its settings."
    return "{0} protects it.".format(_who(change.rule))


def refusals(by_setting: Mapping[str, str]) -> Tuple[str, ...]:
    """What cannot be set and why, one sentence for each reason."""
    by_reason: Dict[str, List[str]] = {}
    for setting, why in by_setting.items():
        by_reason.setdefault(sentence(why), []).append(setting)
    return tuple("{0}: {1}".format(listed(settings), why) for why, settings in by_reason.items())


def _who(rule: str) -> str:
    return "The default" if rule == DEFAULT else "Rule " + rule


def _refused(change: Change, notes: Notes) -> List[str]:
    if change.outcome != "refused":
        return []
    open_risks = [risk for risk in change.risks if not risk.forced]
    told = ["Refused, and nothing of it is done."]
    told += refusals(notes.refusals)
    told += [risk.message for risk in open_risks]
    names = list(dict.fromkeys(risk.name for risk in open_risks))
    force = "" if notes.refusals or not names else ", or force {0}".format(listed(names))
    return told + (["Change the rule{0}.".format(force)] if names else [])


# --- one setting


def _value(setting: str, value: Any) -> str:
    if setting == "oom_group":
        return "on" if value else "off"
    if setting in PROTECTIONS and value is None:
        return "all of it"
    return shown(value) if setting in SIZES else str(value)


def _move(target: Target, step: Step) -> str:
    """`memory_max from no limit to 512 MiB`; exact where both would read the same."""
    only_stored = step.setting in target.effective and step.effective == step.wanted
    place = target.stored if only_stored or step.setting not in target.effective else target.effective
    before = _value(step.setting, place[step.setting]) if step.setting in place else "an unknown value"
    after = _value(step.setting, step.wanted)
    if before == after:
        before, after = ("{0} bytes".format(value) for value in (place[step.setting], step.wanted))
    how = ", as stored" if only_stored else "" if step.ability.live or step.ability.refusal else " with its next start"
    return "{0} from {1} to {2}{3}".format(step.setting, before, after, how)


def _waiting(step: Step) -> str:
    return "{0} {1} is stored, and holds from its next start on; until then it is {2}.".format(
        step.setting, _value(step.setting, step.wanted), _value(step.setting, step.effective)
    )


def _drift(step: Step, time: str) -> str:
    found = step.effective if step.effective != step.wanted and step.effective is not None else step.stored
    lost = False in step.ability.survives
    said = (
        "it is {0} now: it was lost with a restart, or somebody has changed it"
        if lost
        else ("somebody has since changed it to {0}")
    )
    return "{0} was set to {1} by the run of {2}, and {3}.".format(
        step.setting, _value(step.setting, step.wanted), time, said.format(_value(step.setting, found))
    )

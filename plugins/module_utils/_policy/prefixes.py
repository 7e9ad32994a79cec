# Copyright (c) 2026 oom.forensics contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A drop-in for all units with a prefix, and the units of that prefix that run now. Private. Pure.

The drop-in is for units yet to come, and its next daemon-reload hands it to those that run, too (observed with 252). It
comes behind a unit's own file. What a drop-in behind it sets, as an engine does for a container's limit, holds.
"""

from typing import AbstractSet, Any, Dict, Iterable, Iterator, List, Mapping, NamedTuple, Sequence, Tuple

from . import risks
from .model import SIZES, Change, Risk, Target

# A change of these outcomes holds against the prefix's.
_HOLDING = ("planned", "pending", "unchanged")


class Reached(NamedTuple):
    """A running unit, and the settings that a prefix's drop-in changes for it."""

    target: Target
    settings: Dict[str, Any]


def reached(change: Change, targets: Iterable[Target], changes: Iterable[Change]) -> List[Reached]:
    """Whom the change of a prefix's drop-in reaches now.

    :arg changes: those of all targets: what one of them gives a unit itself holds for it.
    """
    wanted = {step.setting: step.wanted for step in change.steps if step.changes and step.ability.live}
    if not wanted:
        return []
    ruled = {each.target.path: {step.setting for step in each.steps} for each in changes if each.outcome in _HOLDING}
    running = [target for target in targets if _is_of(target, change.target.identity)]
    told = [ruled.get(each.path, set()) | change.target.told.get(each.unit or "", set()) for each in running]
    found = [Reached(target, dict(_settings(target, wanted, own))) for target, own in zip(running, told)]
    return [each for each in found if each.settings]


def _is_of(target: Target, prefix: str) -> bool:
    stem, _dot, kind = prefix.rpartition(".")
    name, _dot, own_kind = (target.unit or "").rpartition(".")
    return target.path is not None and own_kind == kind and name.startswith(stem) and name != stem


def _settings(target: Target, wanted: Mapping[str, Any], told: AbstractSet[str]) -> Iterator[Tuple[str, Any]]:
    """What is wanted and changes something here: the unit was not told it, and its kernel has such a setting."""
    for setting, value in wanted.items():
        known = setting in target.effective or setting not in SIZES
        if known and setting not in told and target.effective.get(setting) != value:
            yield setting, value


def risks_of(change: Change, found: Sequence[Reached], exempt: Mapping[Any, str], force: Any) -> Tuple[Risk, ...]:
    """What the change of a prefix's drop-in risks for the units that it reaches: each risk once, with one of them.

    :arg exempt: the rules that protect units, by their cgroup.
    """
    by_name: Dict[str, List[Risk]] = {}
    for each in found:
        for risk in _of_one(change, each, exempt, force):
            by_name.setdefault(risk.name, []).append(risk)
    return tuple(_told(change.target.identity, several) for several in by_name.values())


def _of_one(change: Change, found: Reached, exempt: Mapping[Any, str], force: Any) -> Iterator[Risk]:
    target = found.target
    steps = [step for step in change.steps if step.setting in found.settings]
    seen = set()
    for risk in risks.of_change(target, steps, force):
        if risk.name not in seen:  # each unit counts once
            seen.add(risk.name)
            yield risk._replace(message="{0}: {1}".format(target.label, risk.message))
    if target.path in exempt:
        message = "{0}: Rule {1} protects it, and {2} is for it too.".format(
            target.label, exempt[target.path], change.target.identity
        )
        yield Risk(risks.EXEMPT_INCLUDED, message, risks.EXEMPT_INCLUDED in force)


def _told(prefix: str, several: Sequence[Risk]) -> Risk:
    first, more = several[0], len(several) - 1
    if not more:
        return first
    words = "So is 1 more unit of {1}." if more == 1 else "So are {0} more units of {1}."
    return first._replace(message="{0} {1}".format(first.message, words.format(more, prefix)))

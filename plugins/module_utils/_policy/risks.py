# Copyright (c) 2026 oom.forensics contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reasons not to make a change. Private to this collection. Pure.

Only what makes things tighter is a risk to the workload itself: raising its own limit never is. What the limits of a
host add up to counts the topmost limit of each branch of the cgroup tree: whatever is limited below it cannot use
more than that together, and what is not limited may use all of it. (The audit's `limits_total` is about containers
alone, and comes to the same where all that is limited is looked at.)
"""

from typing import Any, Callable, Dict, Iterator, List, Mapping, NamedTuple, Optional, Sequence, Tuple

from .model import Risk, Step, Target
from .sizes import shown

LIMITS_EXCEED_MEMORY = "limits_exceed_memory"
EXEMPT_INCLUDED = "exempt_included"
# The kernel adds it to the badness, in thousandths of the memory: at -500 half of the memory is as if it were unused.
_PROTECTING_SCORE = -500


class Case(NamedTuple):
    """A target, what would be changed, and its settings before and after that as the kernel has them."""

    target: Target
    wanted: Dict[str, Any]
    before: Dict[str, Any]
    after: Dict[str, Any]

    def tightens(self, setting: str) -> bool:
        """Whether the change sets a limit where none was, or where none was known, or lowers one."""
        limit = self.wanted.get(setting)
        before = self.before.get(setting)
        return limit is not None and (before is None or limit < before)


def now(target: Target) -> Dict[str, Any]:
    """The settings of a target: as the kernel has them, else as its manager has."""
    return dict(target.stored, **target.effective)


# --- of one change


def of_change(target: Target, steps: Sequence[Step], force: Any) -> Tuple[Risk, ...]:
    """The risks of the steps that change something, those of `force` marked as forced."""
    wanted = {step.setting: step.wanted for step in steps if step.changes}
    before = now(target)
    case = Case(target, wanted, before, dict(before, **wanted))
    return tuple(Risk(name, message, name in force) for name, find in _RISKS for message in find(case))


def _below_usage(case: Case) -> Iterator[str]:
    current, reclaimable = case.target.usage.current, case.target.usage.reclaimable or 0
    if current is None:
        return
    needed = current - reclaimable
    found = [each for each in ("memory_max", "memory_high") if case.tightens(each) and case.wanted[each] < needed]
    for setting in found:
        yield (
            "{0} of {1} is below the {2} that it uses now and the kernel cannot take back "
            "({3}, of which it can take {4}).".format(
                setting, shown(case.wanted[setting]), shown(needed), shown(current), shown(reclaimable)
            )
        )
    if "memory_max" not in found:
        yield from _below_usage_with_swap(case, needed)


def _below_usage_with_swap(case: Case, needed: int) -> Iterator[str]:
    """What is in swap comes back to memory when it is used, and has to fit there."""
    swapped = case.target.usage.swap or 0
    limit, swap = case.after.get("memory_max"), case.after.get("memory_swap_max")
    if not swapped or limit is None or swap is None or limit + swap >= needed + swapped:
        return
    if case.tightens("memory_max") or case.tightens("memory_swap_max"):
        yield (
            "memory_max of {0} and memory_swap_max of {1} together are below the {2} that it uses now and the kernel "
            "cannot take back ({3} of memory and {4} of swap).".format(
                shown(limit), shown(swap), shown(needed + swapped), shown(needed), shown(swapped)
            )
        )


def _below_peak(case: Case) -> Iterator[str]:
    peak = case.target.usage.peak
    if peak is not None and case.tightens("memory_max") and case.wanted["memory_max"] < peak:
        yield "memory_max of {0} is below its peak of {1}.".format(shown(case.wanted["memory_max"]), shown(peak))


def _oom_group_on_infrastructure(case: Case) -> Iterator[str]:
    grouped = case.wanted.get("oom_group") is True or case.wanted.get("oom_policy") == "kill"
    if case.target.infrastructure and grouped:
        yield "It holds the namespaces of a pod, and a kill of the whole group ends every container in it."


def _critical_unprotected(case: Case) -> Iterator[str]:
    tighter = [setting for setting in ("memory_max", "memory_high") if case.tightens(setting)]
    loses = _protected(case.before) and not _protected(case.after)
    if case.target.critical and not _protected(case.after) and (tighter or loses):
        yield (
            "The host cannot do without it, and {0} without protection; "
            "give it a memory_min or memory_low, or an oom_score_adjust of {1} or less.".format(
                "this leaves it" if not tighter else "it would have a tighter " + " and ".join(tighter),
                _PROTECTING_SCORE,
            )
        )


def _protected(settings: Mapping[str, Any]) -> bool:
    kept = (settings.get(setting, 0) for setting in ("memory_min", "memory_low"))
    return (
        any(each is None or each > 0 for each in kept) or (settings.get("oom_score_adjust") or 0) <= _PROTECTING_SCORE
    )


def _high_above_max(case: Case) -> Iterator[str]:
    high, limit = case.after.get("memory_high"), case.after.get("memory_max")
    touched = case.tightens("memory_max") or case.wanted.get("memory_high") is not None
    if touched and high is not None and limit is not None and high > limit:
        yield "memory_high of {0} is above memory_max of {1}, so it never acts.".format(shown(high), shown(limit))


_RISKS: Tuple[Tuple[str, Callable[[Case], Iterator[str]]], ...] = (
    ("below_usage", _below_usage),
    ("below_peak", _below_peak),
    ("oom_group_on_infrastructure", _oom_group_on_infrastructure),
    ("critical_unprotected", _critical_unprotected),
    ("high_above_max", _high_above_max),
)

# What the option `force` takes.
NAMES = tuple(name for name, _find in _RISKS) + (EXEMPT_INCLUDED, LIMITS_EXCEED_MEMORY)


# --- of all changes together


class Sums(NamedTuple):
    """Limits by cgroup, and what the topmost limits below each cgroup add up to."""

    limits: Mapping[str, Optional[int]]
    below: Mapping[str, int]

    @property
    def total(self) -> int:
        """What all of them may use together, in bytes; what has no limit anywhere is not counted."""
        return self._allowed("")

    def exceeds(self, path: str, before: "Sums") -> bool:
        """Whether a cgroup that no limit above holds back may use more than it might before, with all below it."""
        path = path.rstrip("/")
        if any(self.limits.get(above) is not None for above in _above(path)):
            return False
        return self._allowed(path) > before._allowed(path)

    def _allowed(self, path: str) -> int:
        limit = self.limits.get(path)
        return self.below.get(path, 0) if limit is None else limit


def sums(limits: Mapping[str, Optional[int]]) -> Sums:
    """Add up the limits, in bytes, of cgroups by path; None: it has none."""
    limits = {path.rstrip("/"): limit for path, limit in limits.items()}
    below: Dict[str, int] = {}
    for path in limits:
        _add_nodes(below, path)
    for path in sorted(below, key=len, reverse=True):  # what is below a cgroup has a longer path
        if path:
            limit = limits.get(path)
            below[path.rpartition("/")[0]] += below[path] if limit is None else limit
    return Sums(limits, below)


def _add_nodes(nodes: Dict[str, int], path: str) -> None:
    for each in [path] + _above(path):
        nodes.setdefault(each, 0)


def _above(path: str) -> List[str]:
    """The cgroups above one, the nearest first, and at last the root, which is empty here."""
    found: List[str] = []
    while path:
        path = path.rpartition("/")[0]
        found.append(path)
    return found


def limits_exceed_memory(total: int, memory_total: int, reserve: int, forced: bool) -> Risk:
    """The risk of a change that adds to the sum of the limits where that is too large."""
    message = "All limits would add up to {0}, and the host has {1} of memory less a reserve of {2}.".format(
        shown(total), shown(memory_total), shown(reserve)
    )
    return Risk(LIMITS_EXCEED_MEMORY, message, forced)

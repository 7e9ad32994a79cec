# Copyright (c) 2026 oom.forensics contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The part that a run which makes changes and one that undoes them have in common. Private to this collection.

Orders are worked off one after the other, managers finish, and the kernel is read.
"""

import contextlib
import signal
import time
from typing import Any, Callable, Dict, Iterator, List, Mapping, NamedTuple, Optional, Sequence, Tuple

from .._policy import sizes
from .._policy.model import SIZES, Change, Target
from . import cgroupfs, policy_docker, policy_kernel, policy_podman, policy_systemd, run
from .policy_calls import ManagerError
from .policy_record import RecordError, Run, Writer, unfinished

# Every manager has: refusal, before, apply, undo, finish.
MANAGERS: Dict[str, Any] = {"docker": policy_docker, "podman": policy_podman, "systemd": policy_systemd}

# systemd hands some values to the kernel after it has answered.
_CONFIRM_SECONDS = 2.0
_POLL_SECONDS = 0.05
_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
MOST_NAMED = 5
_MADE = ("applied", "pending", "rolled_back")


class PolicyFailure(Exception):
    """Nothing was done. The message is for the user: what was tried, found, what to do."""


class Answer(NamedTuple):
    """What was found and done.

    :ivar changed: whether something was changed, or would be.
    :ivar failure: why the task fails, as a sentence; None: it does not.
    :ivar run: the id of the recorded run that was made, rolled back or watched.
    :ivar interrupted: an earlier run that did not end: `run started done open`.
    :ivar last_run: the newest recorded run that there was before.
    :ivar limits: `before_bytes after_bytes memory_total_bytes reserve_bytes`.
    :ivar watched: as of ``policy_watch.watch``.
    """

    changes: List[Change]
    changed: bool
    failure: Optional[str] = None
    run: Optional[str] = None
    interrupted: Optional[Dict[str, Any]] = None
    last_run: Optional[str] = None
    unmatched: int = 0
    idle: Tuple[str, ...] = ()
    managers: Sequence[Dict[str, Any]] = ()
    limits: Optional[Dict[str, int]] = None
    watched: Optional[Dict[str, Any]] = None


def interrupted(runs: Sequence[Run]) -> Optional[Dict[str, Any]]:
    """The earlier run that did not end."""
    found = unfinished(runs)
    if found is None:
        return None
    return {"run": found.id, "started": found.started, "done": found.count("done"), "open": found.count("open")}


Key = Tuple[str, str]


def key_of(target: Target) -> Key:
    """Manager and identity, which no other target has."""
    return target.manager, target.identity


class Order(NamedTuple):
    """Something to do for one target. ``do`` raises RecordError where nothing was done."""

    key: Key
    do: Callable[[], "Became"]


class Became(NamedTuple):
    """What became of an order.

    :ivar message: why.
    :ivar changed: whether the target may have been changed.
    :ivar entry: its number in the record, and the ``status`` that it has there from now on; None: it stays open.
    """

    outcome: str
    message: Optional[str] = None
    changed: bool = True
    entry: int = -1
    status: Optional[str] = None


class Expected(NamedTuple):
    """What the kernel is to have in a cgroup afterwards."""

    path: Optional[str]
    settings: Dict[str, Any]


# What no file of a cgroup tells.
_UNSEEN = ("oom_policy", "oom_score_adjust")


def expected(change: Change) -> Expected:
    """Of a change: what reaches the running workload at once, where there is one."""
    path = change.target.path
    live = (step for step in change.steps if path and step.changes and step.ability.live)
    return Expected(path, {step.setting: step.wanted for step in live if step.setting not in _UNSEEN})


class Caught:
    """The name of the signal that asked to stop, if one came."""

    name: Optional[str] = None


@contextlib.contextmanager
def signals() -> Iterator[Caught]:
    """Who ends the task meanwhile waits until the order in hand is done, and the rest is in order."""
    caught = Caught()

    def note(number: int, _frame: Any) -> None:
        caught.name = signal.Signals(number).name

    before = {number: signal.signal(number, note) for number in _SIGNALS}
    try:
        yield caught
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def do_all(orders: Sequence[Order], writer: Writer, caught: Caught) -> Tuple[Dict[Key, Became], Optional[str]]:
    """Work off the orders: what became of each, and why not all of them were done."""
    became: Dict[Key, Became] = {}
    done = 0
    for order in orders:
        if caught.name:
            return became, _STOPPED.format(caught.name, done, len(orders))
        try:
            found = order.do()
            done += 1
            earlier = became.get(order.key)
            became[order.key] = earlier if earlier and earlier.outcome == "failed" else found
            if found.status:
                writer.closed(found.entry, found.status)
        except RecordError as error:
            return became, _UNRECORDED.format(error, done, len(orders))
    return became, None


_STOPPED = (
    "{0} ended the run after {1} of {2} changes. Run the task again to go on with it, or with state=rolled_back to "
    "undo what it has done."
)
_UNRECORDED = "{0} The run has ended after {1} of {2} changes."


def finish(host: run.Host, became: Dict[Key, Became], begun: Optional[Run] = None) -> Optional[str]:
    """Let each manager do what it does once behind all changes.

    :arg begun: a run that another process began, and that may have ended before this.
    :returns: why a manager could not, where no change of this process failed with that. What one only remarks on a
        change is added to its message.
    """
    changed = {key for key, each in became.items() if each.changed}
    touched = changed | {entry.key for entry in (begun.entries if begun else ())}
    failure = None
    for name in sorted({manager for manager, _identity in touched}):
        own = {key for key in changed if key[0] == name}
        try:
            remarks = MANAGERS[name].finish(host, sorted(identity for manager, identity in touched if manager == name))
            became.update((key, _remarked(became[key], remarks.get(key[1]))) for key in own)
        except ManagerError as error:
            failure = failure or (None if own else error.sentence)
            became.update(dict.fromkeys(own, Became("failed", error.sentence)))
    return failure


def _remarked(became: Became, remark: Optional[str]) -> Became:
    return became._replace(message=" ".join(filter(None, (became.message, remark))) or None)


def confirm(host: run.Host, changes: Sequence[Change], became: Dict[Key, Became]) -> None:
    """Read what the kernel has of what was changed; it may take a moment until it has it."""
    made = {key for key, each in became.items() if each.outcome in _MADE}
    waiting = {key_of(change.target): expected(change) for change in changes if key_of(change.target) in made}
    waiting = {key: each for key, each in waiting.items() if each.settings}
    deadline = time.monotonic() + _CONFIRM_SECONDS
    while waiting:
        settings = _settings_by_path(host)
        wrong = {key: _wrong(each.settings, settings.get(each.path)) for key, each in waiting.items()}
        waiting = {key: waiting[key] for key, each in wrong.items() if each}
        if time.monotonic() >= deadline:
            became.update((key, _remarked(each, became[key].message)) for key, each in wrong.items() if each)
            return
        time.sleep(_POLL_SECONDS if waiting else 0)


def cgroups_by_path(host: run.Host, with_stat: Sequence[str] = ()) -> Dict[Optional[str], Dict[str, Any]]:
    """Every cgroup of the host as it is now; of a container the one that has its limits."""
    cgroups, _coverage = cgroupfs.read(host, with_stat=with_stat)
    own = {cgroup["path"]: cgroup for cgroup in cgroups}
    return {path: own.get(policy_kernel.inside(path) or path, own[path]) for path in own}


def _settings_by_path(host: run.Host) -> Dict[Optional[str], Dict[str, Any]]:
    return {path: policy_kernel.settings(cgroup) for path, cgroup in cgroups_by_path(host).items()}


def _wrong(wanted: Mapping[str, Any], found: Optional[Mapping[str, Any]]) -> Optional[Became]:
    """What is not as it should be; None where all is."""
    if found is None:
        return Became("vanished", "It was changed, and has ended since.")
    others = [setting for setting in wanted if setting not in found or found[setting] != wanted[setting]]
    if not others:
        return None
    words = ("{0} is {1}, not {2}".format(each, _known(found, each), shown(each, wanted[each])) for each in others)
    return Became("failed", "The kernel does not have what was set: {0}.".format(", ".join(words)))


def _known(settings: Mapping[str, Any], name: str) -> str:
    return shown(name, settings[name]) if name in settings else "not known"


def shown(setting: str, value: Any) -> str:
    """A value for a sentence."""
    return sizes.shown(value) if setting in SIZES else str(value).lower()


def noted(writer: Writer, event: str, done: Sequence[int] = ()) -> Optional[str]:
    """Why the end of the run could not be written; None: it was.

    :arg done: numbers of changes that are done by then.
    """
    try:
        for number in done:
            writer.closed(number, "done")
        writer.ended(event)
    except RecordError as error:
        return str(error)
    return None


def told(changes: Sequence[Change], became: Mapping[Key, Became]) -> List[Change]:
    """The changes with what became of them."""
    return [_told(change, became.get(key_of(change.target))) for change in changes]


def _told(change: Change, became: Optional[Became]) -> Change:
    return change._replace(outcome=became.outcome, message=became.message or change.message) if became else change


def complaint(changes: Sequence[Change], outcome: str) -> Optional[str]:
    """How many changes have this outcome, and the first of them by name and reason; None: none has."""
    found = [change for change in changes if change.outcome == outcome]
    if not found:
        return None
    named = " ".join("{0}: {1}".format(change.target.label, change.message) for change in found[:MOST_NAMED])
    more = " And {0} more.".format(len(found) - MOST_NAMED) if len(found) > MOST_NAMED else ""
    return "{0} {1}. {2}{3}".format(_counted(len(found), "change"), outcome, named, more)


def refusal(changes: Sequence[Change]) -> Optional[str]:
    """Why nothing at all is changed, if one of the changes is refused."""
    complained = complaint(changes, "refused")
    return "Nothing was changed. {0}".format(complained) if complained else None


def _counted(count: int, noun: str) -> str:
    return "{0} {1}{2}".format(count, noun, "" if count == 1 else "s")

# Copyright (c) 2026 oom.forensics contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a policy asks systemd and tells it, in systemctl's words. Private to this collection."""

from typing import Dict, Iterable, Iterator, Mapping, Optional, Sequence, Tuple

from . import cgroup_memory, policy_dropins, policy_kernel, run
from .policy_calls import ManagerError, VanishedError, call

NONE = "infinity"
_GONE = ("not found", "not loaded")
_OWN_SLICE = "oom_forensics.slice"  # the end of the names of those that `realize` starts
_LONGEST = 255  # of a unit's name (systemd.unit(5))


def show(host: run.Host, units: Sequence[str], properties: Sequence[str]) -> Dict[str, Dict[str, str]]:
    """Properties of units or patterns of them, by the unit, in one call.

    Of a unit that is not there systemd shows defaults, and fails not. Raises ManagerError.

    :arg properties: ``Id`` is asked for too.
    """
    if not units:
        return {}
    argv = [_systemctl(host), "show", "--property=" + ",".join(("Id",) + tuple(properties)), "--"] + list(units)
    blocks = call(host, argv).decode("utf-8", "replace").split("\n\n")
    shown = (policy_dropins.assignments(block) for block in blocks)
    return {each["Id"]: dict(dict.fromkeys(properties, ""), **each) for each in shown if each.get("Id")}


def _systemctl(host: run.Host) -> str:
    return host.which("systemctl") or "systemctl"


def size(text: str) -> Optional[int]:
    """A limit as systemd shows it, in bytes; None: no limit."""
    return None if text == NONE else cgroup_memory.limit(text.encode("ascii"))


def set_properties(host: run.Host, unit: str, properties: Mapping[str, object], lasting: bool) -> None:
    """Set properties of a running unit at once, such as ``{"MemoryHigh": 52428800}``; None: no limit.

    Of a scope they are gone when it ends, so also when its container starts anew. systemd writes all limits of the
    unit that it knows to the kernel then, and so undoes what somebody wrote there without telling it (observed with
    252: a limit of swap that runc kept to itself). Raises ManagerError, VanishedError.
    """
    named = ["{0}={1}".format(name, text(properties[name])) for name in sorted(properties)]
    argv = [_systemctl(host), "set-property"] + ([] if lasting else ["--runtime"]) + ["--", unit] + named
    try:
        call(host, argv)
    except ManagerError as error:
        if any(words in str(error) for words in _GONE):
            raise VanishedError("It ended meanwhile: {0}".format(error)) from error
        raise


def text(value: object) -> str:
    """A value of a property; None: no limit."""
    return NONE if value is None else str(value)


def reload(host: run.Host) -> None:
    """Have systemd read all drop-ins: one daemon-reload. Raises ManagerError."""
    shown = show(host, ["*.scope", "*" + _OWN_SLICE], ("ControlGroup", "MemorySwapMax"))
    left = sorted(filter(is_own, shown))
    if left:
        call(host, [_systemctl(host), "stop", "--"] + left)
    refused = _hold_swap(host, shown)
    if refused:
        raise _unread(refused)
    call(host, [_systemctl(host), "daemon-reload"])


def _hold_swap(host: run.Host, scopes: Mapping[str, Mapping[str, str]]) -> Dict[str, ManagerError]:
    """Tell systemd the limits of swap that the kernel has and it has not been told, lest its reload removes them.

    runc 1.1.5 tells it no limit of 0, and no changed one; a container without swap then got all of it (252).

    :returns: the scopes of which it could not be told, each with the reason.
    """
    refused = {}
    for unit, limit in _swap_untold(host, scopes):
        try:
            set_properties(host, unit, {"MemorySwapMax": limit}, lasting=False)
        except VanishedError:
            continue  # and its limit with it
        except ManagerError as error:
            refused[unit] = error
    return refused


def _swap_untold(host: run.Host, scopes: Mapping[str, Mapping[str, str]]) -> Iterator[Tuple[str, int]]:
    """The scopes with a limit of swap that systemd does not know, and that limit, in bytes."""
    for unit, shown in scopes.items():
        cgroup = policy_kernel.read(host, shown["ControlGroup"]) if shown["ControlGroup"] else None
        if cgroup is None or cgroup["cgroup_version"] == 1:
            continue
        limit = policy_kernel.settings(cgroup).get("memory_swap_max")
        if limit is not None and limit != size(shown["MemorySwapMax"]):
            yield unit, limit


def _unread(refused: Mapping[str, ManagerError]) -> ManagerError:
    """Why systemd is not to reload, with the first of these scopes by name."""
    unit, error = next(iter(refused.items()))
    more = " (and {0} more)".format(len(refused) - 1) if len(refused) > 1 else ""
    advice = " ".join(filter(None, (error.advice, _RELOAD_BY_HAND.format(unit))))
    return ManagerError(_UNREAD.format(unit + more, error), advice)


_UNREAD = (
    "The drop-ins are written, but systemd has not read them yet: its daemon-reload would take away the limit of swap "
    "of {0}, which it does not know and could not be told. {1}"
)
_RELOAD_BY_HAND = (
    "Set MemorySwapMax of {0} with `systemctl set-property --runtime`, or let it end; then run "
    "`systemctl daemon-reload`."
)


# --- handing what was read to the kernel


def is_own(unit: str) -> bool:
    """Whether it is a slice of ``realize``, which a run that was cut off has left."""
    return unit.endswith(_OWN_SLICE)


def realize(host: run.Host, slices: Iterable[str]) -> None:
    """Have systemd write to the kernel what it has read of the units in these slices. Raises ManagerError.

    It does so when something starts there; an empty slice, which is stopped again, will do (observed with 257).
    """
    own = [each for each in sorted(map(_inside, slices)) if len(each) <= _LONGEST]
    if own:
        try:
            # In this mode it takes the place of nobody's job, such as one that stops the slice around it.
            call(host, [_systemctl(host), "start", "--job-mode=fail", "--"] + own)
        finally:
            call(host, [_systemctl(host), "stop", "--"] + own)


def _inside(parent: str) -> str:
    """The slice of this collection in another one, which its name tells (systemd.slice(5))."""
    return (parent.rpartition(".")[0] + "-").lstrip("-") + _OWN_SLICE

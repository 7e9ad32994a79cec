# Copyright (c) 2026 oom.forensics contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The settings of a rule: checked, and understood. Private to this collection. Pure."""

from typing import Any, Callable, Dict, Mapping

from . import checks, sizes
from .model import SETTINGS, SIZES, PolicyError
from .wording import described, listed, sentence, similar

OOM_POLICIES = ("continue", "stop", "kill")


def read(rule: Mapping[str, Any], where: str) -> Dict[str, Any]:
    """The settings that a checked mapping has: sizes as `sizes.Size`, the others as they are wanted.

    Raises PolicyError with one sentence that begins with `where`.
    """
    given = [setting for setting in SETTINGS if setting in rule]
    settings = {setting: _setting(setting, rule[setting], "{0}, {1}".format(where, setting)) for setting in given}
    _check_high(settings, where)
    _check_group(settings, where)
    return settings


def _setting(setting: str, value: Any, where: str) -> Any:
    if value is None:
        hint = ", or write max where no limit is meant" if setting in SIZES else ""
        raise PolicyError("{0} has no value; leave it out{1}.".format(where, hint))
    return _size(setting, value, where) if setting in SIZES else _READERS[setting](value, where)


def _size(setting: str, value: Any, where: str) -> sizes.Size:
    try:
        size = sizes.parse(value)
    except PolicyError as error:
        raise PolicyError("{0}: {1}.".format(where, error)) from None
    if setting == "memory_max" and size.whole == "memory_max":
        raise PolicyError("{0}: {1} would be a share of itself; write a share of host.".format(where, size.expression))
    if setting in sizes.NEVER_NOTHING and size.amount == 0:
        raise PolicyError(
            "{0}: {1} would leave it no memory at all; write max where no limit is meant.".format(
                where, size.expression
            )
        )
    return size


def _oom_policy(value: Any, where: str) -> str:
    if not isinstance(value, str) or value not in OOM_POLICIES:
        hint = similar(value, OOM_POLICIES) if isinstance(value, str) else ""
        raise PolicyError(
            sentence("{0}: {1} is none of {2}{3}".format(where, described(value), listed(OOM_POLICIES), hint))
        )
    return value


def _score(value: Any, where: str) -> int:
    number = checks.whole_number(value)
    if number is None or not -1000 <= number <= 1000:
        raise PolicyError("{0}: {1} is no whole number from -1000 to 1000.".format(where, described(value)))
    return number


_READERS: Dict[str, Callable[[Any, str], Any]] = {
    "oom_group": checks.switch,
    "oom_policy": _oom_policy,
    "oom_score_adjust": _score,
}


def expressions(rule: Mapping[str, Any]) -> Dict[str, str]:
    """The same settings as they were written."""
    written = {setting: str(rule[setting]).strip() for setting in SETTINGS if setting in rule}
    if "oom_group" in written:
        written["oom_group"] = str(checks.switch(rule["oom_group"], "")).lower()
    return written


def _check_high(settings: Mapping[str, Any], where: str) -> None:
    bytes_of = {
        setting: settings[setting].amount
        for setting in ("memory_high", "memory_max")
        if setting in settings and settings[setting].whole is None and settings[setting].amount is not None
    }
    if len(bytes_of) == 2 and bytes_of["memory_high"] > bytes_of["memory_max"]:
        raise PolicyError(
            "{0}, memory_high of {1} is above memory_max of {2}, so it would never act; lower it.".format(
                where, sizes.shown(int(bytes_of["memory_high"])), sizes.shown(int(bytes_of["memory_max"]))
            )
        )


def _check_group(settings: Mapping[str, Any], where: str) -> None:
    if "oom_group" not in settings or "oom_policy" not in settings:
        return
    if settings["oom_group"] != (settings["oom_policy"] == "kill"):
        raise PolicyError(
            "{0} has oom_group: {1} beside oom_policy: {2}, and systemd kills a unit's processes as a group with "
            "oom_policy: kill only; leave one of them out.".format(
                where, str(settings["oom_group"]).lower(), settings["oom_policy"]
            )
        )

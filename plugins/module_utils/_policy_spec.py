# Copyright (c) 2026 oom.forensics contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The options of memory_policy, and what they mean. Private to this collection."""

from typing import Any, Dict

from ._host import run
from ._host.policy import Request
from ._host.policy_record import DIRECTORY, Store
from ._options import OptionError
from ._policy import risks, rules
from ._policy.model import SIZES
from ._policy.settings import OOM_POLICIES

STATES = ("planned", "applied", "verified", "rolled_back")
RESULT_BYTES, LEAST_RESULT_BYTES = 262144, 16384

_SETTINGS: Dict[str, Dict[str, Any]] = dict(
    {size: {"type": "raw"} for size in SIZES},
    oom_group={"type": "bool"},
    oom_policy={"type": "str", "choices": list(OOM_POLICIES)},
    oom_score_adjust={"type": "int"},
)
_MATCH: Dict[str, Dict[str, Any]] = {
    "engine": {"type": "str"},
    "name": {"type": "str"},
    "image": {"type": "str"},
    "labels": {"type": "dict"},
    "compose_project": {"type": "str"},
    "unit": {"type": "str"},
    "slice": {"type": "str"},
    "user": {"type": "raw"},
    "cgroup": {"type": "str"},
}
POLICY_SPEC: Dict[str, Dict[str, Any]] = {
    "state": {"type": "str", "choices": list(STATES), "default": "planned"},
    "rules": {
        "type": "list",
        "elements": "dict",
        "options": dict(
            _SETTINGS,
            name={"type": "str", "required": True},
            match={"type": "dict", "required": True, "options": _MATCH},
            exempt={"type": "bool", "default": False},
        ),
        "default": [],
    },
    "default": {"type": "dict", "options": _SETTINGS},
    "reserve": {"type": "raw", "default": "10%"},
    "force": {"type": "list", "elements": "str", "choices": list(risks.NAMES), "default": []},
    "refused": {"type": "str", "choices": ["fail", "skip"], "default": "fail"},
    "unsupported": {"type": "str", "choices": ["fail", "skip"], "default": "fail"},
    "lasting": {"type": "bool", "default": True},
    "run": {"type": "str"},
    "newer_than": {"type": "str"},
    "window": {"type": "int", "default": 60},
    "max_pressure": {"type": "float", "default": 60.0},
    "state_path": {"type": "path", "default": DIRECTORY},
    "lock_timeout": {"type": "int", "default": 60},
    "max_result_bytes": {"type": "int", "default": RESULT_BYTES},
}
_BOUNDS = {
    "window": (0, 86400),
    "max_pressure": (0, 100),
    "lock_timeout": (0, 86400),
    "max_result_bytes": (LEAST_RESULT_BYTES, 16777216),
}


def request(params: Dict[str, Any], check_mode: bool) -> Request:
    """What the module options ask for. Raises OptionError, PolicyError before anything is read."""
    for name, (least, most) in _BOUNDS.items():
        if not least <= params[name] <= most:
            raise OptionError("{0}: {1} is out of range; it takes {2} to {3}.".format(name, params[name], least, most))
    if not params["state_path"].startswith("/"):
        raise OptionError("state_path: {0!r} is no whole path; begin with a slash.".format(params["state_path"]))
    policy = rules.check([_rule(rule) for rule in params["rules"]], _given(params["default"] or {}))
    if params["state"] in ("planned", "applied") and not policy.rules and not policy.default:
        raise OptionError("rules: there is no rule, and no default; a policy needs one of them.")
    return Request(
        policy=policy,
        reserve=params["reserve"],
        force=params["force"],
        refused=params["refused"],
        unsupported=params["unsupported"],
        lasting=params["lasting"],
        store=Store(run.Host(), params["state_path"]),
        lock_timeout=params["lock_timeout"],
        check=check_mode,
    )


def _rule(rule: Dict[str, Any]) -> Dict[str, Any]:
    return dict(_given(rule), match=_given(rule["match"]))


def _given(options: Dict[str, Any]) -> Dict[str, Any]:
    """Without the options that were not given, which Ansible fills with null."""
    return {name: value for name, value in options.items() if value is not None}

# Copyright (c) 2026 oom.forensics contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The rules of a policy: checked whole before any host is touched, and which of them is for a target. Private. Pure.

The first rule whose conditions all hold governs a target. Slices, sessions, pods, and scopes that are no container
are governed only by rules that ask for the unit or the cgroup: what is meant for containers shall not hit what
holds many of them. A rule for ``docker-.scope``, with no other condition, is for a systemd drop-in that all units
with that prefix have, also those yet to come: a target without a cgroup.
"""

import itertools
import re
from typing import Any, Dict, List, Mapping, NamedTuple, Optional, Sequence, Tuple

from . import checks, sizes
from . import conditions as _conditions
from . import settings as _settings
from .model import SETTINGS, PolicyError, Target
from .wording import described, listed

DEFAULT = "default"
_LONGEST_NAME = 100
_PREFIX = re.compile(r"[^*?\[]+-\.(?:scope|service|slice)")


class Rule(NamedTuple):
    """One rule, understood.

    :ivar conditions: of each key of `match`, as `conditions.py` understands it.
    :ivar settings: as `settings.py` understands them.
    :ivar expressions: the settings as they were written.
    :ivar prefix: the unit name of a prefix drop-in, where the rule is for one.
    """

    name: str
    conditions: Dict[str, Any]
    exempt: bool
    settings: Dict[str, Any]
    expressions: Dict[str, str]
    prefix: Optional[str]


class Policy(NamedTuple):
    """Rules in their order, and the one for what they leave."""

    rules: Tuple[Rule, ...]
    default: Optional[Rule]

    @property
    def prefixes(self) -> Tuple[str, ...]:
        """The unit names of prefix drop-ins, such as `docker-.scope`: each wants a target without a cgroup."""
        return tuple(dict.fromkeys(rule.prefix for rule in self.rules if rule.prefix))

    @property
    def users(self) -> Tuple[str, ...]:
        """The user names that the rules have: `matching` has to be told the uids of those that the host knows."""
        named = (rule.conditions.get("user") for rule in self.rules)
        return tuple(dict.fromkeys(user for user in named if isinstance(user, str)))


# --- checking


def check(rules: Any, default: Any) -> Policy:
    """The policy that the options `rules` and `default` mean, as YAML gives them; None: there is none.

    Raises PolicyError with one sentence that names the rule and the option.
    """
    rules = [] if rules is None else rules
    if not isinstance(rules, (list, tuple)):
        raise PolicyError("rules must be a list of rules, not {0}.".format(described(rules)))
    found: List[Rule] = []
    for number, rule in enumerate(rules, 1):
        found.append(_rule(rule, "Rule number {0}".format(number)))
        first = [each.name for each in found].index(found[-1].name) + 1
        if first < number:
            raise PolicyError(
                "Rule number {0} has the name of rule number {1}, {2}; give it one of its own.".format(
                    number, first, found[-1].name
                )
            )
    _check_overlap([rule for rule in found if rule.prefix])
    return Policy(tuple(found), _default(default))


def _check_overlap(found: Sequence[Rule]) -> None:
    """No prefix begins with another one: of two drop-ins of one name systemd reads the longer prefix's alone."""
    for short, long in itertools.permutations(found, 2):
        (stem, _dot, kind), (longer, _dot, other) = (str(rule.prefix).rpartition(".") for rule in (short, long))
        if kind == other and longer.startswith(stem) and longer != stem:
            raise PolicyError(
                "Rule {0} is for {1}, and rule {2} for {3}; systemd would read only {3} of the two for a unit of both. "
                "Write one of them for the units that run now, as {4}.".format(
                    short.name, short.prefix, long.name, long.prefix, str(long.prefix).replace("-.", "-*.")
                )
            )


def _default(default: Any) -> Optional[Rule]:
    where = "The default"
    if default is None or default == {}:
        return None
    checks.keys(default, SETTINGS, where)
    return Rule(DEFAULT, {}, False, _settings.read(default, where), _settings.expressions(default), None)


_KEYS = ("name", "match", "exempt") + SETTINGS


def _rule(rule: Any, where: str) -> Rule:
    checks.mapping(rule, where)
    name = _name(rule.get("name"), where)
    where = "Rule " + name
    checks.keys(rule, _KEYS, where)
    if rule.get("match") is None or rule["match"] == {}:
        raise PolicyError(where + " has no match; say there what it is for, or use the option default.")
    conditions = _conditions.read(rule["match"], where + ", match")
    exempt = checks.switch(rule.get("exempt", False), where + ", exempt")
    settings = _settings.read(rule, where)
    if exempt and settings:
        raise PolicyError(
            "{0} is exempt and sets {1} too; it can only do one of them.".format(where, listed(list(settings)))
        )
    if not exempt and not settings:
        raise PolicyError(where + " sets nothing; give it a setting, or exempt: true.")
    checked = Rule(name, conditions, exempt, settings, _settings.expressions(rule), _prefix(conditions))
    _check_prefix(checked, where)
    return checked


def _name(name: Any, where: str) -> str:
    if name is None:
        raise PolicyError(where + " has no name.")
    if not isinstance(name, str) or not name.strip() or not name.isprintable() or len(name) > _LONGEST_NAME:
        raise PolicyError(
            "{0} has {1} for a name; a name is text of at most {2} printable characters.".format(
                where, described(name), _LONGEST_NAME
            )
        )
    if name == DEFAULT:
        raise PolicyError("{0} is called default, as the option default is; give it another name.".format(where))
    return name


def _prefix(conditions: Mapping[str, Any]) -> Optional[str]:
    unit = conditions.get("unit", "")
    return unit if _PREFIX.fullmatch(unit) else None


def _check_prefix(rule: Rule, where: str) -> None:
    if rule.prefix is None:
        return
    running = rule.prefix.replace("-.", "-*.")
    others = [key for key in rule.conditions if key != "unit"]
    if others:
        raise PolicyError(
            "{0}, match has {1} beside unit: {2}, which is a drop-in for all units with that prefix; no other "
            "condition can hold for them. For those that run now write {3}.".format(
                where, listed(others), rule.prefix, running
            )
        )
    if rule.exempt:
        raise PolicyError(
            "{0} is exempt and for the drop-in of {1}, which protects nothing; write {2}.".format(
                where, rule.prefix, running
            )
        )
    for setting, size in rule.settings.items():
        if isinstance(size, sizes.Size) and size.whole == "peak":
            raise PolicyError(
                "{0}, {1}: {2} needs a peak, and units yet to come have none; write bytes or a share of host.".format(
                    where, setting, size.expression
                )
            )


# --- matching

# What any rule governs; all other kinds only a rule that asks for the unit or the cgroup.
_GOVERNED = ("container", "unit")
_EXPLICIT = ("unit", "cgroup")


def matching(policy: Policy, target: Target, uids: Mapping[str, int]) -> Optional[Rule]:
    """The rule that governs a target; None: no rule does.

    :arg uids: of those names in `policy.users` that the host knows. A name that is not there is nobody's.
    """
    for rule in policy.rules:
        if _is_for(rule, target, uids):
            return rule
    return policy.default if policy.default and _is_common(target) else None


def _is_for(rule: Rule, target: Target, uids: Mapping[str, int]) -> bool:
    if rule.prefix is not None or target.path is None:
        return target.path is None and rule.prefix == target.unit
    if target.workload.get("kind") not in _GOVERNED and not any(key in rule.conditions for key in _EXPLICIT):
        return False
    return _conditions.hold(rule.conditions, target, uids)


def _is_common(target: Target) -> bool:
    """Whether the default is for it: a container or a service that has a manager here, and is like others."""
    kind = target.workload.get("kind")
    if target.path is None or target.manager == "none" or target.critical or target.infrastructure:
        return False
    return kind == "container" or (kind == "unit" and (target.unit or "").endswith(".service"))

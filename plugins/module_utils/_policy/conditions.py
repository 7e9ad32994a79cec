# Copyright (c) 2026 oom.forensics contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The conditions of a rule: checked, and compared with a target. Private to this collection. Pure.

Patterns are those of a shell, case matters. What a target does not have, or is not known of it, no pattern matches.
"""

import fnmatch
import re
from typing import Any, Callable, Dict, Mapping, NamedTuple, Tuple

from . import checks
from .model import PolicyError, Target
from .wording import described, listed, sentence, similar

# As _oom/workload.py calls them.
ENGINES = (
    "docker",
    "podman",
    "containerd",
    "cri-o",
    "lxc",
    "nspawn",
    "kubernetes",
    "ecs",
    "libvirt",
    "nomad",
    "slurm",
)
_LONGEST_PATTERN = 1000
# Labels are the users' own: only so many characters of one are looked at. Before Python 3.9 a pattern with several
# stars takes a power of the length.
_LONGEST_TEXT = 1000
_LONGEST_USER = 32  # useradd takes no more
_LARGEST_UID = 2**32 - 2
_WILD = "*?["
_UNIT_TYPES = (".service", ".scope", ".slice", ".socket", ".mount", ".swap")


# --- checking


def _pattern(value: Any, where: str) -> str:
    if not isinstance(value, str):
        raise PolicyError("{0}: {1} is no text; write a pattern in quotes.".format(where, described(value)))
    if not value:
        raise PolicyError(where + ": an empty pattern matches nothing; leave it out.")
    if len(value) > _LONGEST_PATTERN:
        raise PolicyError(
            "{0}: the pattern has {1} characters; {2} are the most.".format(where, len(value), _LONGEST_PATTERN)
        )
    try:
        re.compile(fnmatch.translate(value))
    except re.error:  # before Python 3.9.13: a range from a higher to a lower character
        raise PolicyError("{0}: {1} is no shell pattern.".format(where, described(value))) from None
    return value


def _engine(value: Any, where: str) -> str:
    pattern = _pattern(value, where)
    if not any(fnmatch.fnmatchcase(engine, pattern) for engine in ENGINES):
        hint = similar(pattern, ENGINES) or "; the engines are " + listed(ENGINES)
        raise PolicyError(sentence("{0}: {1} is no engine{2}".format(where, described(pattern), hint)))
    return pattern


def _labels(value: Any, where: str) -> Dict[str, str]:
    checks.mapping(value, where)
    if not value:
        raise PolicyError(where + " is empty; leave it out.")
    for label in value:
        if not isinstance(label, str):
            raise PolicyError("{0}: {1} is no text; write the label in quotes.".format(where, described(label)))
    return {label: _pattern(value[label], "{0}, {1}".format(where, described(label))) for label in value}


def _user(value: Any, where: str) -> Any:
    """A uid, or a name."""
    if value == "root":
        return 0
    number = checks.whole_number(value)
    if number is not None and 0 <= number <= _LARGEST_UID:
        return number
    if number is not None or not isinstance(value, str) or not value.strip() or len(value) > _LONGEST_USER:
        raise PolicyError("{0}: {1} is neither a uid nor a name.".format(where, described(value)))
    return value


def _cgroup(value: Any, where: str) -> str:
    pattern = _pattern(value, where)
    if pattern[0] not in "/" + _WILD:
        raise PolicyError("{0}: {1} matches no cgroup, as paths begin with /.".format(where, described(pattern)))
    return pattern


def _unit(value: Any, where: str) -> str:
    return _unit_name(value, _UNIT_TYPES, where)


def _slice(value: Any, where: str) -> str:
    return _unit_name(value, (".slice",), where)


def _unit_name(value: Any, types: Tuple[str, ...], where: str) -> str:
    pattern = _pattern(value, where)
    if not pattern.endswith(types) and not any(character in pattern for character in _WILD):
        raise PolicyError(
            "{0}: {1} is no unit's name; write {2}.".format(where, described(pattern), described(pattern + types[0]))
        )
    return pattern


# --- comparing


class _Condition(NamedTuple):
    """One key of `match`: how its value is checked, and whether it holds for a target, given the uids of names."""

    read: Callable[[Any, str], Any]
    holds: Callable[[Any, Target, Mapping[str, int]], bool]


def _fits(pattern: str, text: Any) -> bool:
    return text is not None and fnmatch.fnmatchcase(str(text)[:_LONGEST_TEXT], pattern)


def _of_workload(*keys: str) -> Callable[[Any, Target, Mapping[str, int]], bool]:
    return lambda pattern, target, _uids: any(_fits(pattern, target.workload.get(key)) for key in keys)


def _imaged(pattern: Any, target: Target, _uids: Mapping[str, int]) -> bool:
    """Podman writes docker.io/library/nginx:1 where Docker writes nginx:1; a pattern without a slash means both."""
    image = target.workload.get("image")
    return _fits(pattern, image if image is None or "/" in pattern else image.rpartition("/")[2])


def _labelled(patterns: Any, target: Target, _uids: Mapping[str, int]) -> bool:
    labels = target.workload.get("labels") or {}
    return all(_fits(pattern, labels.get(label)) for label, pattern in patterns.items())


def _belongs(user: Any, target: Target, uids: Mapping[str, int]) -> bool:
    """The host's own workloads have no uid: they are root's."""
    return (target.workload.get("uid") or 0) == (user if isinstance(user, int) else uids.get(user))


_CONDITIONS = {
    "engine": _Condition(_engine, _of_workload("engine")),
    "name": _Condition(_pattern, _of_workload("name", "container_name", "pod_name")),
    "image": _Condition(_pattern, _imaged),
    "labels": _Condition(_labels, _labelled),
    "compose_project": _Condition(_pattern, _of_workload("compose_project")),
    "unit": _Condition(_unit, lambda pattern, target, _uids: _fits(pattern, target.unit)),
    "slice": _Condition(_slice, _of_workload("slice")),
    "user": _Condition(_user, _belongs),
    "cgroup": _Condition(_cgroup, lambda pattern, target, _uids: _fits(pattern, target.path)),
}


def read(match: Any, where: str) -> Dict[str, Any]:
    """The conditions that `match` means, by key. Raises PolicyError with one sentence that begins with `where`."""
    checks.keys(match, tuple(_CONDITIONS), where)
    return {
        key: condition.read(match[key], "{0}, {1}".format(where, key))
        for key, condition in _CONDITIONS.items()
        if key in match
    }


def hold(wanted: Mapping[str, Any], target: Target, uids: Mapping[str, int]) -> bool:
    """Whether a target meets all conditions, as `read` returned them."""
    return all(_CONDITIONS[key].holds(value, target, uids) for key, value in wanted.items())

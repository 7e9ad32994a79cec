# Copyright (c) 2026 oom.forensics contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Drop-ins of systemd units: a policy's own, and those of others that win over them. Private to this collection.

systemd reads the drop-ins of a unit in the order of their names, whatever folders they are in, and of two that set the
same the later one holds (observed with 252).
"""

import os
import tempfile
from typing import Dict, Mapping, NamedTuple, Optional, Sequence, Set

from . import run
from .policy_calls import ManagerError


class _Place(NamedTuple):
    """A folder for drop-ins, and what a policy's own are called there: a unit's, and that of a prefix."""

    folder: str
    of_unit: str
    of_prefix: str


# A unit's own come behind the 50-MemoryMax.conf that `systemctl set-property` writes, and before an override.conf of
# the administrator. A prefix's come before both, so that what an engine told systemd of one container holds: behind
# it, a prefix's 100M replaced the container's own 48M at the next daemon-reload, though not at its start (252).
_LASTING = _Place("/etc/systemd/system", "50-oom-forensics.conf", "10-oom-forensics.conf")
_RUNTIME = _Place("/run/systemd/system", "60-oom-forensics.conf", "11-oom-forensics.conf")
_PLACES = (_LASTING, _RUNTIME)

_HEADER = "# The module oom.forensics.memory_policy wrote this file, and will rewrite or remove it."
_TEMPORARY = ".oom-forensics-"
_READ_ONLY = "Make {0} writable, or, where the system keeps it read-only, run the policy with lasting=false."


def is_prefix(unit: str) -> bool:
    """Whether a drop-in for this name is for all units that begin with it (systemd.unit(5), since 239)."""
    return unit.rpartition(".")[0].endswith("-")


def path(unit: str, lasting: bool) -> str:
    """The policy's own drop-in of a unit or prefix."""
    place = _LASTING if lasting else _RUNTIME
    name = place.of_prefix if is_prefix(unit) else place.of_unit
    return "{0}/{1}.d/{2}".format(place.folder, unit, name)


def read(host: run.Host, unit: str) -> Dict[str, str]:
    """The policy's own drop-ins of a unit that there are, the one that wins last: their text by their path."""
    paths = (path(unit, lasting) for lasting in (True, False))
    found = ((each, run.read_text(host, each)) for each in paths)
    return {each: text for each, text in found if text is not None}


def assignments(text: str) -> Dict[str, str]:
    """What a drop-in sets, of whatever section. An empty value is the default again."""
    found = {}
    for line in text.splitlines():
        name, equals, value = line.partition("=")
        if equals and not name.lstrip().startswith(("#", ";")):
            found[name.strip()] = value.strip()
    return found


def later(host: run.Host, unit: str, paths: Sequence[str], lasting: bool) -> Dict[str, str]:
    """By property: the drop-in of somebody else that systemd reads after the policy's own.

    :arg paths: the drop-ins that systemd has read for the unit.
    """
    own = os.path.basename(path(unit, lasting))
    ours = {name for place in _PLACES for name in (place.of_unit, place.of_prefix)}
    names = ((os.path.basename(each), each) for each in paths)
    behind = sorted((name, each) for name, each in names if name > own and name not in ours)
    return {key: each for _name, each in behind for key in assignments(run.read_text(host, each) or "")}


def behind(host: run.Host, prefix: str, paths: Sequence[str], lasting: bool) -> Set[str]:
    """The properties that drop-ins of a unit set behind the policy's own one of a prefix, whoever wrote them.

    :arg paths: the drop-ins that systemd has read for the unit.
    """
    own = os.path.basename(path(prefix, lasting))
    texts = (run.read_text(host, each) or "" for each in paths if os.path.basename(each) > own)
    return {key for text in texts for key in assignments(text)}


def write(host: run.Host, unit: str, properties: Mapping[str, str], lasting: bool) -> None:
    """Set properties in the policy's own drop-in, and leave the others that it sets as they are.

    A lasting one takes them out of the one that is not, which would win. systemd reads it at its next daemon-reload.
    Raises ManagerError.
    """
    if lasting:
        _rewrite(host, unit, path(unit, False), dict.fromkeys(properties))
    _rewrite(host, unit, path(unit, lasting), properties)


def _rewrite(host: run.Host, unit: str, place: str, changes: Mapping[str, Optional[str]]) -> None:
    """Change assignments of one drop-in; those to None are taken out."""
    merged: Dict[str, Optional[str]] = dict(assignments(run.read_text(host, place) or ""))
    merged.update(changes)
    kept = ["{0}={1}".format(key, merged[key]) for key in sorted(merged) if merged[key] is not None]
    restore(host, {place: "\n".join([_HEADER, _section(unit)] + kept) if kept else None})


def _section(unit: str) -> str:
    """`[Service]` for a service: systemd ignores what stands in another type's section."""
    return "[{0}]".format(unit.rpartition(".")[2].capitalize())


def restore(host: run.Host, texts: Mapping[str, Optional[str]]) -> None:
    """Have drop-ins with this text, or with None not have them. Raises ManagerError."""
    for each, text in texts.items():
        try:
            if text is None:
                _remove(run.below(host, each))
            else:
                _put(run.below(host, each), text + "\n")
        except OSError as error:
            message = "{0} could not be {1}: {2}.".format(each, "written" if text else "removed", run.reason(error))
            raise ManagerError(message, _READ_ONLY.format(os.path.dirname(os.path.dirname(each)))) from error


def _put(place: str, text: str) -> None:
    """Write a file as a whole or not at all. The name of the temporary one ends in nothing that systemd reads."""
    folder = os.path.dirname(place)
    os.makedirs(folder, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(prefix=_TEMPORARY, dir=folder)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
            stream.write(text)
            stream.flush()
            os.fchmod(stream.fileno(), 0o644)
            os.fsync(stream.fileno())
        os.replace(temporary, place)
    except OSError:
        os.unlink(temporary)
        raise


def _remove(place: str) -> None:
    """Remove a file that may be gone, and its folder if nothing else is in it."""
    folder = os.path.dirname(place)
    if os.path.lexists(place):
        os.unlink(place)
    if os.path.isdir(folder) and not os.listdir(folder):
        os.rmdir(folder)

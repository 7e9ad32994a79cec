# Copyright (c) 2026 oom.forensics contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What this collection installed on a host that did not have it, and what of it can go again.

Private to this collection. Runs on the host, changes nothing but the record.
"""

import errno
import json
import os
from typing import Dict, List, NamedTuple, Optional, Sequence

from . import _bcc_packages as table
from ._bcc_plan import Refused, Survey, listed
from ._host import package_query
from ._host.package_managers import Manager
from ._host.package_readers import Package, Rehearsal
from ._host.run import Host, below, read_text, reason

# What the host did not have before. Beside it nothing of this collection stays on a host.
RECORD = "/var/lib/oom-forensics/bcc_tools.json"
SCHEMA = "oom.forensics/bcc_tools/1"


class Removal(NamedTuple):
    """``remove``: what goes. ``keep``: what this collection installed and somebody else needs now."""

    remove: List[Package]
    keep: List[str]


def plan_removal(host: Host, seen: Survey, recorded: Sequence[Package]) -> Removal:
    """What of the recorded packages can go without taking anything else along. Raises Refused if nothing of it can."""
    mine = [package for package in recorded if is_installed(package, seen.installed)]
    if not mine or seen.manager is None:
        return Removal([], [])
    others = _in_the_way(host, seen, mine)
    if not others:
        return Removal(with_versions(mine, seen.installed), [])
    # Somebody needs something of it. What was asked for goes with all that nobody needs then, and nothing else.
    asked = [package for package in mine if package.name in _asked(seen)]
    rehearsal = package_query.rehearse(
        host, seen.manager, seen.manager.unneeded_argv, specs(seen.manager, asked, seen.installed)
    )
    unneeded = {package.name for package in rehearsal.remove}
    remove = [package for package in mine if package.name in unneeded]
    if not remove or _in_the_way(host, seen, remove):
        raise Refused(
            "still_needed",
            "{0} cannot be removed, as {1} would go too or break; remove that first, or keep them.".format(
                listed([package.name for package in mine]), listed(others)
            ),
        )
    kept = [package.name for package in mine if package not in remove]
    return Removal(with_versions(remove, seen.installed), kept)


def _in_the_way(host: Host, seen: Survey, mine: Sequence[Package]) -> List[str]:
    """Who stands in the way of a removal: packages that would go too, or that the package manager names."""
    if seen.manager is None:
        return []
    wanted = specs(seen.manager, mine, seen.installed)
    rehearsal = package_query.rehearse(host, seen.manager, seen.manager.remove_argv, wanted)
    names = {package.name for package in mine}
    others = {package.name for package in rehearsal.remove} | set(rehearsal.blockers)
    if rehearsal.error and not others:
        return [rehearsal.error]
    return sorted(others - names)


def _asked(seen: Survey) -> List[str]:
    """Names that are installed for their own sake, the rest came with them."""
    if seen.row is None or seen.manager is None:
        return []
    headers = [name for name in seen.installed if "headers" in name or name.endswith(("-devel", "-dev"))]
    return list(seen.row.tools.values()) + list(seen.manager.support) + headers


def with_versions(packages: Sequence[Package], installed: Dict[str, List[str]]) -> List[Package]:
    """The packages, each with the version that is installed where it had none."""
    return [Package(each.name, each.version or installed[each.name][-1]) for each in packages]


def specs(manager: Manager, packages: Sequence[Package], installed: Dict[str, List[str]]) -> List[str]:
    """How to name packages to the package manager: by version only where several are installed side by side."""
    return [
        manager.spec.format(name=each.name, version=each.version)
        if each.version and len(installed.get(each.name, [])) > 1
        else each.name
        for each in packages
    ]


def is_installed(package: Package, installed: Dict[str, List[str]]) -> bool:
    """Whether a recorded package is there; one recorded with its version only in that version."""
    versions = installed.get(package.name, [])
    return bool(versions) and (package.version is None or package.version in versions)


def to_record(rehearsal: Rehearsal, header: Optional[table.Header]) -> List[Package]:
    """The packages that a host does not have yet. The version matters where several may be there side by side."""
    return [
        Package(package.name, package.version if header and header.version and package.name == header.name else None)
        for package in rehearsal.install
    ]


def read(host: Host) -> List[Package]:
    """The packages that this collection installed and the host did not have before. Raises Refused if unreadable."""
    path = below(host, RECORD)
    if not os.path.exists(path):
        return []
    try:
        rows = json.loads(read_text(host, RECORD) or "")["packages"]
        return [Package(str(row["name"]), row["version"] and str(row["version"])) for row in rows]
    except (ValueError, KeyError, TypeError) as error:
        raise Refused(
            "record_unreadable",
            "{0}, the record of what was installed, cannot be read ({1}); remove the packages by hand, then the "
            "file.".format(RECORD, error),
        ) from None


def write(host: Host, packages: Sequence[Package]) -> None:
    """Replace the record, or remove it and its directory when nothing is left to remember. Raises Refused."""
    path = below(host, RECORD)
    try:
        if not packages:
            _forget(path)
            return
        os.makedirs(os.path.dirname(path), mode=0o755, exist_ok=True)
        rows = [
            dict(each._asdict()) for each in sorted(set(packages), key=lambda each: (each.name, each.version or ""))
        ]
        with open(path + ".new", "w") as stream:
            json.dump({"schema": SCHEMA, "packages": rows}, stream, indent=1, sort_keys=True)
            stream.write("\n")
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(path + ".new", path)
    except OSError as error:
        _clean(path)
        raise Refused(
            "disk_full" if error.errno == errno.ENOSPC else "record_not_written",
            "{0}, the record of what will be installed, cannot be written: {1}; without it nothing is "
            "installed.".format(RECORD, reason(error)),
        ) from error


def _forget(path: str) -> None:
    """Remove the record, and its directory if nothing else is in it."""
    if os.path.exists(path):
        os.unlink(path)
    folder = os.path.dirname(path)
    if os.path.isdir(folder) and not os.listdir(folder):
        os.rmdir(folder)


def _clean(path: str) -> None:
    """Remove what a record that could not be written has left. The old one stays."""
    try:
        if os.path.exists(path):
            os.unlink(path + ".new")
        else:
            _forget(path + ".new")
    except OSError:  # what made it fail may keep this from working, too
        return

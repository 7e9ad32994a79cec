# Copyright (c) 2026 oom.forensics contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Readers of what package managers print: packages, and what a rehearsal would do. Text in, facts out; private."""

import re
from typing import Dict, List, NamedTuple, Optional


class Package(NamedTuple):
    """A package by name; ``version`` is None where it is not known or does not matter."""

    name: str
    version: Optional[str]


class Rehearsal(NamedTuple):
    """What the package manager would do. ``download``, ``disk``: bytes, None if it did not say.

    ``blockers``: installed packages that need what is to be removed. ``unknown``: names that no repository has.
    ``error``: the package manager's own words where it refused, else None.
    """

    install: List[Package]
    upgrade: List[Package]
    remove: List[Package]
    download: Optional[int]
    disk: Optional[int]
    blockers: List[str]
    unknown: List[str]
    error: Optional[str]


class Answer(NamedTuple):
    """How a command answered: exit status, stdout, and the first line of its complaint."""

    status: int
    out: str
    complaint: str
    stderr: str


NOTHING = Rehearsal([], [], [], None, None, [], [], None)


# ---- sizes -----------------------------------------------------------------------------------------------------------

_SIZE = r"([0-9][0-9.,]*) ?([kKMGT]?i?B?)\b"
_UNITS = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4}


def _bytes(amount: str, unit: str) -> int:
    """``21.9 MB``, ``150 M``, ``33.8 MiB`` in bytes. apt counts in thousands, the others in 1024; so does this, which
    is never too little."""
    return int(float(amount.replace(",", "")) * 1024 ** _UNITS[unit.lower().rstrip("b").rstrip("i")])


def _size(pattern: str, text: str) -> Optional[int]:
    match = re.search(pattern.replace("SIZE", _SIZE), text)
    return _bytes(match.group(1), match.group(2)) if match else None


# ---- dpkg and apt ----------------------------------------------------------------------------------------------------


def read_dpkg(text: str) -> List[Package]:
    """``name<TAB>version<TAB>status``; only what is unpacked (a configuration file that was left is no package)."""
    rows = [line.split("\t") for line in text.splitlines()]
    return [Package(row[0], row[1]) for row in rows if len(row) == 3 and row[2][1:2] in ("i", "U", "F", "W", "t", "H")]


def read_apt_policy(text: str) -> List[Package]:
    """apt-cache policy. Its candidate is what it would install, so that comes last."""
    found: List[Package] = []
    name = ""
    for line in text.splitlines():
        if line.endswith(":") and not line.startswith(" "):
            name = line[:-1]
        match = re.match(r"  Candidate: (\S+)$", line)
        if match and name and match.group(1) != "(none)":
            found.append(Package(name, match.group(1)))
    return found


_APT_SECTIONS = {
    "The following NEW packages will be installed:": "install",
    "The following packages will be upgraded:": "upgrade",
    "The following packages will be DOWNGRADED:": "upgrade",
    "The following packages will be REMOVED:": "remove",
}
_APT_UNKNOWN = re.compile(
    r"^E: (?:Unable to locate package (\S+)|Package '([^']+)' has no installation candidate)$", re.M
)
_APT_UNMET = re.compile(r"^ (\S+) : (?:Pre)?Depends: ", re.M)


def read_apt_rehearsal(answer: Answer) -> Rehearsal:
    """apt-get --assume-no --print-uris --verbose-versions. Where it asks, it ends with status 1 and ``Abort.``."""
    parts: Dict[str, List[Package]] = {"install": [], "upgrade": [], "remove": []}
    section = None
    for line in answer.out.splitlines():
        if not line.startswith(" "):
            section = _APT_SECTIONS.get(line)
            continue
        match = re.match(r"   (\S+?)\*? \((?:\S+ => )?(\S+?)\)$", line)
        if section and match:
            parts[section].append(Package(match.group(1), match.group(2)))
    unknown = [one or other for one, other in _APT_UNKNOWN.findall(answer.stderr + answer.out)]
    agreed = answer.status == 0 or "\nAbort." in answer.out
    return NOTHING._replace(
        install=parts["install"],
        upgrade=parts["upgrade"],
        remove=parts["remove"],
        download=_size(r"Need to get SIZE(?:/\S+ \S+)? of archives", answer.out),
        disk=_size(r"After this operation, SIZE of additional disk space", answer.out),
        blockers=sorted(set(_APT_UNMET.findall(answer.out))),
        unknown=unknown,
        error=None if agreed else answer.complaint,
    )


# ---- rpm and dnf -----------------------------------------------------------------------------------------------------


def read_tabs(text: str) -> List[Package]:
    """``name<TAB>version`` or ``name version``; an epoch of 0 is not written."""
    rows = [line.split() for line in text.splitlines()]
    found = [Package(row[0], re.sub(r"^0:", "", row[1])) for row in rows if len(row) >= 2]
    return sorted(found, key=lambda package: (package.name, _order(package.version or "")))


def _order(version: str) -> List[int]:
    return [int(number) for number in re.findall(r"[0-9]{1,18}", version)]


_DNF_SECTION = re.compile(r"^(Installing|Upgrading|Downgrading|Reinstalling|Removing)\b[^:]*:$")
_DNF_PARTS = {"Installing": "install", "Upgrading": "upgrade", "Downgrading": "upgrade", "Removing": "remove"}
_DNF_UNKNOWN = re.compile(r"(?:Unable to find a match|No match for argument): (.+)$", re.M)
_DNF_NEEDED = re.compile(r"is needed by \(installed\) (\S+)|package (\S+) .*requires ", re.M)


def read_dnf_rehearsal(answer: Answer) -> Rehearsal:
    """dnf 4 and 5 with --assumeno: a table, a name too long for its column on a line of its own."""
    parts: Dict[str, List[Package]] = {"install": [], "upgrade": [], "remove": []}
    section: Optional[str] = None
    pending: List[str] = []
    for line in answer.out.splitlines():
        header = _DNF_SECTION.match(line)
        if header:
            section, pending = _DNF_PARTS.get(header.group(1)), []
        elif not line.startswith(" ") or line.strip().startswith("replacing "):
            section = section if line.strip() and line.startswith(" ") else None
        elif section:
            words = pending + line.split()
            pending = words if len(words) < 3 else []
            if len(words) >= 3:
                parts[section].append(Package(words[0], re.sub(r"^0:", "", words[2])))
    text = answer.out + answer.stderr
    agreed = answer.status == 0 or "Operation aborted" in text
    unknown = [name for line in _DNF_UNKNOWN.findall(text) for name in line.split()]
    return NOTHING._replace(
        install=parts["install"],
        upgrade=parts["upgrade"],
        remove=parts["remove"],
        download=_size(r"(?:Total download size: |Need to download )SIZE", text),
        disk=_size(r"(?:Installed size: |After this operation, (?=[^\n]* extra))SIZE", text),
        blockers=sorted({one or other for one, other in _DNF_NEEDED.findall(text)}),
        unknown=unknown,
        error=None if agreed else answer.complaint,
    )


# ---- zypper ----------------------------------------------------------------------------------------------------------


def read_zypper_search(text: str) -> List[Package]:
    """The table of ``zypper search --details``: ``S | Name | Type | Version | Arch | Repository``."""
    rows = [[cell.strip() for cell in line.split("|")] for line in text.splitlines()]
    found = [Package(row[1], row[3]) for row in rows if len(row) >= 6 and row[2] == "package"]
    return sorted(found, key=lambda package: (package.name, _order(package.version or "")))


_ZYPPER_SECTION = re.compile(r"<to-(install|upgrade|downgrade|remove)[^>]*>(.*?)</to-\1[^>]*>", re.S)
_ZYPPER_PARTS = {"install": "install", "upgrade": "upgrade", "downgrade": "upgrade", "remove": "remove"}
_ZYPPER_PACKAGE = re.compile(r'<solvable type="package" name="([^"]+)" edition="([^"]+)"')
_ZYPPER_SUMMARY = re.compile(r'<install-summary download-size="([0-9]+)" space-usage-diff="(-?[0-9]+)"')
_ZYPPER_ERROR = re.compile(r'<message type="error">(.*?)</message>', re.S)
_ZYPPER_UNKNOWN = re.compile(r"No provider of '([^']+)' found|Package '([^']+)' not found")
_ZYPPER_NEEDED = re.compile(r"the installed (\S+) requires ")


def read_zypper_rehearsal(answer: Answer) -> Rehearsal:
    """zypper --xmlout --dry-run. Its text is made for eyes: how it is laid out depends on the terminal."""
    parts: Dict[str, List[Package]] = {"install": [], "upgrade": [], "remove": []}
    for section, solvables in _ZYPPER_SECTION.findall(answer.out):
        parts[_ZYPPER_PARTS[section]] += [Package(*found) for found in _ZYPPER_PACKAGE.findall(solvables)]
    summary = _ZYPPER_SUMMARY.search(answer.out)
    text = answer.out.replace("&apos;", "'") + answer.stderr
    errors = [" ".join(words.split()).rstrip(".") for words in _ZYPPER_ERROR.findall(text)]
    refused = answer.status != 0 or errors
    return NOTHING._replace(
        install=parts["install"],
        upgrade=parts["upgrade"],
        remove=parts["remove"],
        download=int(summary.group(1)) if summary else None,
        disk=int(summary.group(2)) if summary else None,
        blockers=sorted(set(_ZYPPER_NEEDED.findall(text))),
        unknown=[one or other for one, other in _ZYPPER_UNKNOWN.findall(text)],
        error=(errors[0] if errors else answer.complaint) if refused else None,
    )


# ---- pacman ----------------------------------------------------------------------------------------------------------


def read_pacman_info(text: str) -> List[Package]:
    """``pacman -Si``: a block of ``Key : value`` per package."""
    found: List[Package] = []
    name = ""
    for line in text.splitlines():
        key, _colon, value = (part.strip() for part in line.partition(":"))
        if key == "Name":
            name = value
        elif key == "Version" and name:
            found.append(Package(name, value))
    return found


_PACMAN_NEEDED = re.compile(r"required by (\S+)$", re.M)
_PACMAN_UNKNOWN = re.compile(r"target not found: (\S+)")


def _read_pacman(answer: Answer, part: str) -> Rehearsal:
    rows = [line.split() for line in answer.out.splitlines()]
    rows = [row for row in rows if len(row) == 3 and row[2].isdigit()]
    text = answer.out + answer.stderr
    result = NOTHING._replace(
        download=sum(int(row[2]) for row in rows),
        blockers=sorted(set(_PACMAN_NEEDED.findall(text))),
        unknown=_PACMAN_UNKNOWN.findall(text),
        error=None if answer.status == 0 else answer.complaint,
    )
    return result._replace(**{part: [Package(row[0], row[1]) for row in rows]})


def read_pacman_rehearsal(answer: Answer) -> Rehearsal:
    """``--print``: a row of name, version, bytes each. A removal marks its rows with a fourth word."""
    removal = any(line.endswith(" removed") for line in answer.out.splitlines())
    stripped = answer._replace(out=re.sub(r" removed$", "", answer.out, flags=re.M))
    return _read_pacman(stripped, "remove" if removal else "install")


# ---- apk -------------------------------------------------------------------------------------------------------------


def read_apk_installed(text: str) -> List[Package]:
    """``apk info -v``: name-version-rN."""
    found = [re.match(r"(\S+)-([0-9][^-]*-r[0-9]+)$", line.strip()) for line in text.splitlines()]
    return [Package(match.group(1), match.group(2)) for match in found if match]


def read_apk_policy(text: str) -> List[Package]:
    """``apk policy``: versions below each name, their repositories below each version; the newest version first."""
    found: List[Package] = []
    name, version = "", ""
    for line in text.splitlines():
        if line.endswith(" policy:"):
            name, version = line[: -len(" policy:")], ""
        elif re.match(r"  \S+:$", line):
            version = line.strip()[:-1]
        elif name and version and "://" in line or line.strip().startswith("/"):
            found.append(Package(name, version))
    return sorted(found, key=lambda package: (package.name, _order(package.version or "")))


_APK_STEP = re.compile(r"^\([ 0-9/]+\) (Installing|Upgrading|Downgrading|Purging) (\S+) \((?:\S+ -> )?(\S+)\)$", re.M)
_APK_PARTS = {"Installing": "install", "Upgrading": "upgrade", "Downgrading": "upgrade", "Purging": "remove"}
_APK_UNKNOWN = re.compile(r"^  (\S+) \(no such package\)", re.M)
_APK_KEPT = re.compile(r"^  \S+: (.+)$", re.M)


def read_apk_rehearsal(answer: Answer) -> Rehearsal:
    """``apk --simulate``. A removal keeps what others need and says who."""
    parts: Dict[str, List[Package]] = {"install": [], "upgrade": [], "remove": []}
    for step, name, version in _APK_STEP.findall(answer.out):
        parts[_APK_PARTS[step]].append(Package(name, version))
    text = answer.out + answer.stderr
    _before, _words, kept = text.partition("not removed due to:")
    return NOTHING._replace(
        install=parts["install"],
        upgrade=parts["upgrade"],
        remove=parts["remove"],
        blockers=sorted({name for line in _APK_KEPT.findall(kept) for name in line.split()}),
        unknown=_APK_UNKNOWN.findall(text),
        error=None if answer.status == 0 else answer.complaint,
    )

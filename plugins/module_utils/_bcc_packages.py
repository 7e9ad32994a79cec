# Copyright (c) 2026 oom.forensics contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which distribution calls the tools and the kernel's headers what. Tables; private to this collection.

Adding a distribution is adding a row and its transcript in tests/fixtures/bcc_tools.
"""

import re
from typing import Dict, List, NamedTuple, Optional, Sequence, Tuple


class Header(NamedTuple):
    """A package of kernel headers. ``version``: the only one that fits; None where the name says it."""

    name: str
    version: Optional[str]


class _Rule(NamedTuple):
    """``release`` matches ``uname -r`` of the distribution's own kernels; ``packages``: candidates, name and version,
    made from its groups and ``{release}``."""

    release: str
    packages: Sequence[Tuple[str, Optional[str]]]


class Distribution(NamedTuple):
    """A row: ``ids`` of os-release that it is for, its package manager, packages by backend, header rules.

    ``hint``: what to enable where the repositories lack the tools.
    """

    name: str
    ids: Sequence[str]
    manager: str
    tools: Dict[str, str]
    headers: Sequence[_Rule]
    hint: str


_TOOLS = {"bcc": "bcc-tools", "libbpf": "libbpf-tools", "bpftrace": "bpftrace"}
_DEB_TOOLS = dict(_TOOLS, bcc="bpfcc-tools")

# Releases as seen: 6.1.0-56-amd64, 6.1.0-56-cloud-amd64, 6.12.38+deb13-amd64, 6.1.0-0.deb11.13-amd64,
# 6.6.31+rpt-rpi-v8, 6.8.12-1-pve.
_DEBIAN_HEADERS = (
    _Rule(r"[0-9.]+-[0-9]+-pve", (("proxmox-headers-{release}", None), ("pve-headers-{release}", None))),
    _Rule(r"[0-9.]+(?:\+rpt|\+deb[0-9]+\S*?)-[a-z0-9-]+", (("linux-headers-{release}", None),)),
    _Rule(r"[0-9.]+-[0-9][0-9a-z.]*-[a-z0-9-]+", (("linux-headers-{release}", None),)),
)
# 5.15.0-100-generic, 6.8.0-1008-aws
_UBUNTU_HEADERS = (_Rule(r"[0-9.]+-[0-9]+-[a-z][a-z0-9-]*", (("linux-headers-{release}", None),)),)
# 6.9.4-200.fc40.x86_64, 5.14.0-427.el9.x86_64+rt, 4.18.0-553.rt7.342.el8_10.x86_64, 5.15.0-200.131.27.el9uek.x86_64,
# 6.9.7-1.el9.elrepo.x86_64
_ARCH = r"(?:x86_64|aarch64|ppc64le|s390x|i686|armv7hl|riscv64)"
_FEDORA_HEADERS = (
    _Rule(r"(?P<base>[0-9]\S+uek)\." + _ARCH, (("kernel-uek-devel", "{base}"),)),
    _Rule(
        r"(?P<base>[0-9]\S+\.elrepo)\." + _ARCH,
        (("kernel-ml-devel", "{base}"), ("kernel-lt-devel", "{base}")),
    ),
    _Rule(
        r"(?P<base>[0-9]\S+\.(?:el|fc)[0-9]\S*)\." + _ARCH + r"\+(?P<variant>[a-z0-9-]+)",
        (("kernel-{variant}-devel", "{base}"),),
    ),
    _Rule(r"(?P<base>[0-9]\S+\.rt[0-9]\S*\.el[0-9]\S*)\." + _ARCH, (("kernel-rt-devel", "{base}"),)),
    _Rule(r"(?P<base>[0-9]\S+\.(?:el|fc)[0-9]\S*)\." + _ARCH, (("kernel-devel", "{base}"),)),
)
# 6.1.94-99.176.amzn2023.x86_64; kernels newer than the first of Amazon Linux 2023 have their series in the name.
_AMAZON_HEADERS = (
    _Rule(
        r"(?P<base>(?P<series>[0-9]+\.[0-9]+)\.\S+\.amzn[0-9]+)\." + _ARCH,
        (("kernel-devel", "{base}"), ("kernel{series}-devel", "{base}")),
    ),
)
# 6.4.0-150600.23.7-default, of a package 6.4.0-150600.23.7.3: the number of the rebuild is not in the release.
_SUSE_HEADERS = (
    _Rule(
        r"(?P<base>[0-9][0-9a-z.]*-[0-9.]+(?:\.g[0-9a-f]+)?)-(?P<flavour>[a-z][a-z0-9]*)",
        (("kernel-{flavour}-devel", "{base}.*"),),
    ),
)
# 6.9.7-arch1-1, 6.6.36-1-lts, 6.9.7-zen1-1-zen, 6.8.12-hardened1-1-hardened: a version has one dash only.
_ARCH_HEADERS = (
    _Rule(r"(?P<version>[0-9.]+)-(?P<tag>arch[0-9]+)-(?P<rel>[0-9.]+)", (("linux-headers", "{version}.{tag}-{rel}"),)),
    _Rule(r"(?P<version>[0-9.]+)-(?P<rel>[0-9.]+)-lts", (("linux-lts-headers", "{version}-{rel}"),)),
    _Rule(
        r"(?P<version>[0-9.]+)-(?P<tag>(?P<flavour>zen|hardened)[0-9]+)-(?P<rel>[0-9.]+)-(?P=flavour)",
        (("linux-{flavour}-headers", "{version}.{tag}-{rel}"),),
    ),
)
# 6.6.41-0-lts of the package linux-lts 6.6.41-r0
_ALPINE_HEADERS = (
    _Rule(
        r"(?P<version>[0-9.]+)-(?P<rel>[0-9]+)-(?P<flavour>[a-z][a-z0-9]*)",
        (("linux-{flavour}-dev", "{version}-r{rel}"),),
    ),
)

DISTRIBUTIONS = (
    Distribution(
        "Ubuntu",
        ("ubuntu",),
        "apt",
        _DEB_TOOLS,
        _UBUNTU_HEADERS,
        "enable the component universe (add-apt-repository universe)",
    ),
    Distribution(
        "Debian",
        ("debian", "raspbian"),
        "apt",
        _DEB_TOOLS,
        _DEBIAN_HEADERS,
        "see that /etc/apt lists the component main of this release",
    ),
    Distribution(
        "Amazon Linux 2023",
        ("amzn",),
        "dnf",
        _TOOLS,
        _AMAZON_HEADERS,
        "enable the repository amazonlinux",
    ),
    Distribution(
        "Fedora, RHEL and its rebuilds",
        ("fedora", "rhel", "centos", "rocky", "almalinux", "ol"),
        "dnf",
        _TOOLS,
        _FEDORA_HEADERS,
        "enable the repository that has it (AppStream on RHEL and its rebuilds)",
    ),
    Distribution(
        "SUSE",
        ("suse", "sles", "opensuse", "opensuse-leap", "opensuse-tumbleweed"),
        "zypper",
        _TOOLS,
        _SUSE_HEADERS,
        "activate the module that has it (SUSEConnect -p sle-module-development-tools on SLES)",
    ),
    Distribution(
        "Arch Linux",
        ("arch", "archarm", "manjaro"),
        "pacman",
        _TOOLS,
        _ARCH_HEADERS,
        "enable the repository extra in /etc/pacman.conf",
    ),
    Distribution(
        "Alpine Linux",
        ("alpine",),
        "apk",
        _TOOLS,
        _ALPINE_HEADERS,
        "enable the repository community in /etc/apk/repositories",
    ),
)


def distribution(os_release: Dict[str, str]) -> Optional[Distribution]:
    """The row for a host: by ID of os-release, else by the first word of ID_LIKE that has one; else None."""
    wanted = [os_release.get("ID", "").lower()] + os_release.get("ID_LIKE", "").lower().split()
    for word in wanted:
        for row in DISTRIBUTIONS:
            if word in row.ids:
                return row
    return None


def header_packages(row: Distribution, release: str) -> List[Header]:
    """The packages that may have the headers of the kernel ``release``, the likeliest first.

    Empty for a kernel that is none of the distribution's: one built by hand, or by a vendor.
    """
    for rule in row.headers:
        match = re.match("(?:{0})$".format(rule.release), release)
        if match:
            groups = dict(match.groupdict(), release=release)
            return [
                Header(name.format(**groups), None if version is None else version.format(**groups))
                for name, version in rule.packages
            ]
    return []


def fitting(header: Header, versions: Sequence[str]) -> Optional[str]:
    """The newest of ``versions`` (the newest last) that is this header's; None if none is."""
    if header.version is None:
        return versions[-1] if versions else None
    wanted = header.version
    if wanted.endswith(".*"):
        fits = [each for each in versions if each == wanted[:-2] or each.startswith(wanted[:-1])]
    else:
        fits = [each for each in versions if each == wanted]
    return fits[-1] if fits else None

# Copyright (c) 2026 oom.forensics contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the running kernel offers to tracers of OOM kills, and what this process may do. Reads only; runs nothing.

Everything is asked of the kernel that runs (``/proc/sys/kernel/osrelease``), never of the newest installed one.
"""

import os
import re
from typing import Dict, List, NamedTuple, Optional, Sequence

from . import tracer_tracefs
from .run import Host, below, names, read_text

TRACEFS = ("/sys/kernel/tracing", "/sys/kernel/debug/tracing")
EVENT = "events/oom/mark_victim/format"
KHEADERS = "/sys/kernel/kheaders.tar.xz"

# The headers are whole if the file that every compilation against them reads first is there, and what a build made.
_HEADER_FILES = (("include/linux/kconfig.h",), ("include/generated/autoconf.h", "include/linux/autoconf.h"))

# include/uapi/linux/capability.h
CAPABILITIES = {21: "CAP_SYS_ADMIN", 38: "CAP_PERFMON", 39: "CAP_BPF"}
_ALL_USERS = 4294967295

# Files that a container's engine leaves in it, or that say what it is. Observed: Docker 20.10 makes the first, empty;
# Podman 4.3 the second, with engine="podman-4.3.1"; systemd writes the name of whoever started PID 1 into the third.
_CONTAINER_FILES = (("/.dockerenv", "docker"), ("/run/.containerenv", "podman"))
_CONTAINER_NAME = "/run/systemd/container"
_SERVICE_ACCOUNT = "/var/run/secrets/kubernetes.io"
# Images whose /usr the package manager does not own.
_IMAGE_FILES = ("/run/ostree-booted", "/usr/sbin/transactional-update")
# Files that the package of a kernel has, and the package of its headers has not.
_KERNEL_FILES = ("modules.builtin", "kernel")


class Headers(NamedTuple):
    """``path``: where the running kernel's headers belong; ``found``: something is there; ``complete``: it is whole."""

    path: str
    found: bool
    complete: bool


class Kernel(NamedTuple):
    """The running kernel as a tracer sees it.

    ``kheaders``: the path of the headers inside the kernel, or of the module that brings them. ``tracefs``: the format
    file of oom:mark_victim; ``mountable``: the kernel has a tracefs that is mounted nowhere. ``lockdown``: none,
    integrity, confidentiality, or None where the kernel has no lockdown.
    ``newer``: the newest kernel that is installed and newer than the running one.
    """

    release: str
    machine: str
    btf: Optional[str]
    headers: Headers
    kheaders: Optional[str]
    tracefs: Optional[str]
    mountable: bool
    lockdown: Optional[str]
    newer: Optional[str]


class Rights(NamedTuple):
    """What this process may do. ``container``: the kind of container it is in, None if in none."""

    root: bool
    capabilities: List[str]
    user_namespace: bool
    container: Optional[str]
    image_based: bool

    @property
    def may_trace(self) -> bool:
        """Whether the kernel lets this process load and attach BPF programs, or set up tracefs."""
        if self.user_namespace:
            return False
        have = set(self.capabilities)
        return "CAP_SYS_ADMIN" in have or {"CAP_BPF", "CAP_PERFMON"} <= have


def read_kernel(host: Host) -> Kernel:
    """The running kernel. What cannot be read counts as not there."""
    release = (read_text(host, "/proc/sys/kernel/osrelease") or "").strip()
    return Kernel(
        release=release,
        machine=(read_text(host, "/proc/sys/kernel/arch") or os.uname().machine).strip(),
        btf=_first(host, ("/sys/kernel/btf/vmlinux",)),
        headers=_headers(host, release),
        kheaders=_kheaders(host, release),
        tracefs=_first(host, ["{0}/{1}".format(mount, EVENT) for mount in TRACEFS]),
        mountable=tracer_tracefs.mounted(host) is None and tracer_tracefs.offered(host),
        lockdown=_lockdown(read_text(host, "/sys/kernel/security/lockdown")),
        newer=newer_kernel(host, release),
    )


def read_rights(host: Host) -> Rights:
    """The rights of this process, and what it is confined to."""
    status = dict(
        line.split(":", 1) for line in (read_text(host, "/proc/self/status") or "").splitlines() if ":" in line
    )
    return Rights(
        root=status.get("Uid", "").split()[1:2] == ["0"],
        capabilities=_capabilities(status.get("CapEff", "")),
        user_namespace=_in_user_namespace(read_text(host, "/proc/self/uid_map")),
        container=container(host),
        image_based=_first(host, _IMAGE_FILES) is not None,
    )


def os_release(host: Host) -> Dict[str, str]:
    """The keys of os-release(5), unquoted."""
    text = read_text(host, "/etc/os-release") or read_text(host, "/usr/lib/os-release") or ""
    pairs = (line.split("=", 1) for line in text.splitlines() if "=" in line and not line.lstrip().startswith("#"))
    return {key.strip(): re.sub(r"\\(.)", r"\1", value.strip().strip("\"'")) for key, value in pairs}


def container(host: Host) -> Optional[str]:
    """The kind of container that this process is in: docker, podman, kubernetes, or what systemd calls it."""
    named = (read_text(host, _CONTAINER_NAME) or "").strip()
    if named:
        return named
    for path, kind in _CONTAINER_FILES:
        if os.path.exists(below(host, path)):
            return kind
    return "kubernetes" if os.path.exists(below(host, _SERVICE_ACCOUNT)) else None


def newer_kernel(host: Host, release: str) -> Optional[str]:
    """The newest installed kernel that is newer than ``release``, of its flavour if there is one, else None."""
    installed = [
        name
        for name in names(host, "/lib/modules")
        if _version_key(name) > _version_key(release) and _first(host, _kernel_files(name))
    ]
    alike = [name for name in installed if _flavour(name) == _flavour(release)]
    return max(alike or installed, key=_version_key, default=None)


def _kernel_files(release: str) -> List[str]:
    return ["/lib/modules/{0}/{1}".format(release, name) for name in _KERNEL_FILES]


def _version_key(release: str) -> List[int]:
    return [int(number) for number in re.findall(r"[0-9]{1,9}", re.sub(r"[._+-]?[a-z]+[0-9_]*$", "", release))]


def _flavour(release: str) -> str:
    match = re.search(r"-([a-z][a-z0-9-]*)$", release)
    return match.group(1) if match else ""


def _first(host: Host, paths: Sequence[str]) -> Optional[str]:
    return next((path for path in paths if os.path.exists(below(host, path))), None)


def _headers(host: Host, release: str) -> Headers:
    """Debian splits them: ``build`` has what the build made, ``source`` what is common to all flavours."""
    base = "/lib/modules/" + release
    folders = [base + "/build", base + "/source"]
    whole = all(
        _first(host, [folder + "/" + name for folder in folders for name in alternatives])
        for alternatives in _HEADER_FILES
    )
    # lexists: a link to headers that were removed since is something, too, and worth telling.
    found = bool(release) and os.path.lexists(below(host, folders[0]))
    return Headers(folders[0], found, found and whole)


def _kheaders(host: Host, release: str) -> Optional[str]:
    folder = "/lib/modules/{0}/kernel/kernel".format(release)
    modules = [folder + "/kheaders.ko" + suffix for suffix in ("", ".xz", ".zst", ".gz")]
    return _first(host, [KHEADERS] + modules)


def _lockdown(text: Optional[str]) -> Optional[str]:
    """``[none] integrity confidentiality``: the word in brackets."""
    match = re.search(r"\[([a-z]+)\]", text or "")
    return match.group(1) if match else None


def _capabilities(mask: str) -> List[str]:
    try:
        bits = int(mask.strip() or "0", 16)
    except ValueError:
        return []
    return [name for bit, name in sorted(CAPABILITIES.items()) if bits >> bit & 1]


def _in_user_namespace(text: Optional[str]) -> bool:
    """``0 0 4294967295`` is the map of the first user namespace; BPF and tracefs ask for capabilities there."""
    return text is not None and text.split() != ["0", "0", str(_ALL_USERS)]

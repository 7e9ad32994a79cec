# Copyright (c) 2026 oom.forensics contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The settings of journald that decide which evidence survives. Private to this collection."""

from typing import Dict, Optional

from . import run

# The first main file found is the one that counts; of drop-ins with the same name the first (systemd.conf(5), 252).
_DIRECTORIES = ("/etc/systemd", "/run/systemd", "/usr/local/lib/systemd", "/usr/lib/systemd", "/lib/systemd")
_MAIN = "journald.conf"
_SECTION = "[journal]"
# Key in journald.conf, in lower case -> key in the result.
_KEYS = {
    "storage": "storage",
    "ratelimitintervalsec": "rate_limit_interval",
    "ratelimitinterval": "rate_limit_interval",
    "ratelimitburst": "rate_limit_burst",
    "systemmaxuse": "system_max_use",
    "runtimemaxuse": "runtime_max_use",
    "maxretentionsec": "max_retention",
    "forwardtosyslog": "forward_to_syslog",
    "readkmsg": "read_kmsg",
}


def settings(host: run.Host) -> Optional[Dict[str, Optional[str]]]:
    """What journald.conf and its drop-ins set, as written there; null is journald's own default.

    None where the host has no journald.conf at all, so that nothing says how a journal would be kept.
    """
    main = next((text for text in (_text(host, each, _MAIN) for each in _DIRECTORIES) if text is not None), None)
    drop_ins: Dict[str, str] = {}
    for directory in _DIRECTORIES:
        folder = directory + "/" + _MAIN + ".d"
        for name in run.names(host, folder):
            if name.endswith(".conf") and name not in drop_ins:
                drop_ins[name] = _text(host, folder, name) or ""
    if main is None and not drop_ins:
        return None
    found: Dict[str, Optional[str]] = dict.fromkeys(_KEYS.values())
    for text in [main or ""] + [drop_ins[name] for name in sorted(drop_ins)]:
        found.update(_assignments(text))
    return found


def _text(host: run.Host, directory: str, name: str) -> Optional[str]:
    return run.read_text(host, directory + "/" + name)


def _assignments(text: str) -> Dict[str, Optional[str]]:
    """The known settings of one file. An empty value sets journald's default again."""
    found: Dict[str, Optional[str]] = {}
    section = ""
    for line in text.splitlines():
        line = line.strip()
        if line.startswith("["):
            section = line.lower()
        name, equals, value = line.partition("=")
        key = _KEYS.get(name.strip().lower())
        if key and equals and section == _SECTION:
            found[key] = value.strip() or None
    return found

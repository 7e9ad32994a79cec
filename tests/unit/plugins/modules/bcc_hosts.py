# Copyright (c) 2026 oom.forensics contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hosts made of a transcript of tests/fixtures/bcc_tools: a copied tree of a few files, and recorded answers."""

import json
import pathlib

from ansible_collections.oom.forensics.plugins.module_utils._host import run

FIXTURES = pathlib.Path(__file__).resolve().parents[3] / "fixtures" / "bcc_tools"
NAMES = sorted(path.stem for path in FIXTURES.glob("*.json"))

# A root task of a host that is no container.
STATUS = "Name:\tpython3\nUid:\t0\t0\t0\t0\nCapEff:\t000001ffffffffff\n"
PARAMS = {
    "state": "present",
    "backend": "auto",
    "headers": "auto",
    "update_cache": True,
    "lock_timeout": 0,
    "remember": None,
    "before": None,
    "settle": False,
    "only": None,
}


def load(name):
    return json.loads((FIXTURES / (name + ".json")).read_text(encoding="utf-8"))


def tree(root, os_release, kernel, *more):
    """The files of a host with that running kernel; ``more``: paths, or (path, text)."""
    files = {
        "/etc/os-release": os_release,
        "/proc/sys/kernel/osrelease": kernel + "\n",
        "/proc/self/status": STATUS,
        "/proc/self/uid_map": "         0          0 4294967295\n",
        "/sys/kernel/security/lockdown": "[none] integrity confidentiality\n",
    }
    for each in more:
        path, text = (each, "") if isinstance(each, str) else each
        files[path] = text
    for path, text in files.items():
        if text is None:
            continue
        place = pathlib.Path(str(root)) / path.lstrip("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text, encoding="utf-8")


def headers(kernel):
    base = "/lib/modules/" + kernel + "/build/include/"
    return [base + "linux/kconfig.h", base + "generated/autoconf.h"]


class Player:
    """Answers commands from a transcript. ``asked`` keeps what it was asked; an unknown command is status 127."""

    def __init__(self, commands):
        self.commands = {tuple(row["argv"]): row for row in commands}
        self.asked = []

    def stream(self, argv):
        self.asked.append(list(argv))
        row = self.commands.get(tuple(argv), {"status": 127, "stdout": "", "stderr": "not in the transcript"})
        return run.Running(iter([row["stdout"].encode()]), lambda: run.Ended(row["status"], row["stderr"]))

    def host(self, root):
        """``which`` finds the programs of the transcript, and below root what the tree has of the tools."""
        programs = {argv[0] for argv in self.commands}

        def which(name):
            found = pathlib.Path(str(root)) / "usr/sbin" / name
            return "/usr/sbin/" + name if name in programs or found.exists() else None

        return run.Host(str(root), self.stream, which)

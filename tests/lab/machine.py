# Copyright (c) 2026 oom.forensics contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Make and remove the lab's machines, as the playbooks of extensions/molecule ask for them. Needs root.

    machine.py install
    machine.py create NAME --kind vm --suite bookworm --hierarchy unified
    machine.py create NAME --kind container --suite bookworm
    machine.py destroy NAME

`install` says which Debian packages are not here, and installs them. After a create,
`ssh -F .cache/lab/run-NAME/ssh_config NAME` leads to a virtual machine, `podman exec` to a container.
"""

import argparse
import os
import re
import sys

import _container
import _vm
from _lab import CACHE, LabError, missing, run, say

NAME = re.compile("[a-z][a-z0-9-]{0,30}")


def install() -> None:
    """Installs what both kinds of machines need, after having said what that is."""
    packages = missing({**_vm.NEEDS, **_container.NEEDS})
    if packages:
        say(f"The lab needs packages that are not here and installs them with apt-get: {' '.join(packages)}")
        run("apt-get", "update")
        quiet = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        run("apt-get", "install", "--yes", "--no-install-recommends", *packages, env=quiet)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("verb", choices=["install", "create", "destroy"])
    parser.add_argument("name", nargs="?", default="")
    parser.add_argument("--kind", choices=["vm", "container"], default="vm")
    parser.add_argument("--suite", default="bookworm")
    parser.add_argument("--hierarchy", choices=sorted(_vm.HIERARCHIES), default="unified")
    parser.add_argument("--image", help="an image for the container instead of one that is built here")
    asked = parser.parse_args()
    try:
        if asked.verb == "install":
            install()
        elif not NAME.fullmatch(asked.name):
            raise LabError(f"{asked.name!r} is no name for a machine; it takes letters, digits and dashes.")
        elif asked.verb == "destroy":
            _container.destroy(asked.name)
            _vm.destroy(CACHE / f"run-{asked.name}")
        elif asked.kind == "vm":
            _vm.create(asked.name, asked.suite, asked.hierarchy)
        else:
            _container.create(asked.name, asked.suite, asked.image)
    except LabError as error:
        say(str(error))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

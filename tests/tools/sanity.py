# Copyright (c) 2026 oom.forensics contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run ansible-test sanity on a copy of the checkout. Usage: sanity.py [2.16|2.19|newest] [ansible-test arguments].

ansible-test insists on a folder .../ansible_collections/oom/forensics and follows symbolic links, so the checkout's
own link does not help. Its --venv first fetches a script that installs pip, which a machine without the open internet
cannot; a stand-in takes its place that installs the same pip from the package index that pip is configured for.
"""

import ast
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

from _tools import CACHE, CHECKOUT, require
from cores import CORES, core_bin, version_of

HOME = CACHE / "ansible-test"

STAND_IN = """\
import sys

sys.path.insert(0, {wheel!r})
from pip._internal.cli.main import main

arguments = [argument for argument in sys.argv[1:] if argument not in ("--no-setuptools", "--no-wheel")]
sys.exit(main(["install", "--upgrade", "--force-reinstall"] + arguments))
"""

# ansible-test knows which pip it wants; only its internals say so.
ASK_PIP = """\
import sys, types
from ansible_test._internal.python_requirements import get_venv_packages
print(get_venv_packages(types.SimpleNamespace(version='%d.%d' % sys.version_info[:2]))['pip'])
"""


def output(*command: str) -> str:
    return subprocess.run(command, cwd=CHECKOUT, stdout=subprocess.PIPE, text=True, check=True).stdout


def copy_checkout(destination: pathlib.Path) -> None:
    """Copy what git tracks or would track. Symbolic links stay behind: the checkout's only one leads back to itself."""
    for name in output("git", "ls-files", "-co", "--exclude-standard", "-z").split("\0"):
        source = CHECKOUT / name
        if name and source.is_file() and not source.is_symlink():
            target = destination / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target)


def stand_in_for_get_pip(python: str) -> None:
    """Put the stand-in where ansible-test keeps the script that it would fetch."""
    version = output(python, "-c", ASK_PIP).strip()
    script = HOME / ".ansible" / "test" / "cache" / f"get_pip_{version.replace('.', '_')}.py"
    wheels = CACHE / "pip" / version
    if not list(wheels.glob("pip-*.whl")):
        output(python, "-m", "pip", "download", "-qq", "--no-deps", f"--dest={wheels}", f"pip=={version}")
    script.parent.mkdir(parents=True, exist_ok=True)
    script.write_text(STAND_IN.format(wheel=str(next(wheels.glob("pip-*.whl")))))


def write_pip_configuration(python: str) -> None:
    """ansible-test drops the environment and has a home of its own here: repeat pip's configuration in that home.

    `pip config list` prints global.KEY='VALUE' for files and :env:.KEY='VALUE' for variables, which win.
    """
    options = {"quiet": "2"}
    for line in output(python, "-m", "pip", "config", "list").splitlines():
        key, _equals, value = line.partition("=")
        section, _dot, option = key.rpartition(".")
        if section in ("global", ":env:"):
            options[option] = ast.literal_eval(value)
    lines = ["[global]", *(f"{option} = {' '.join(value.split())}" for option, value in options.items())]
    configuration = HOME / ".config" / "pip" / "pip.conf"
    configuration.parent.mkdir(parents=True, exist_ok=True)
    configuration.write_text("\n".join(lines) + "\n")


def main() -> int:
    arguments = sys.argv[1:]
    name = arguments.pop(0) if arguments else "2.19"
    core = {core.name: core for core in CORES}.get(name)
    if not core:
        sys.exit(f"CORE={name} is unknown; it is one of {', '.join(core.name for core in CORES)}.")
    tools = core_bin(core)
    if not tools:
        return require(f"ansible-core {name} needs Python {' or '.join(core.controllers)}: none is on this machine")
    python = str(tools / "python")
    stand_in_for_get_pip(python)
    write_pip_configuration(python)
    controller = output(python, "-c", "import sys; print('%d.%d' % sys.version_info[:2])").strip()
    print(f"ansible-test sanity of ansible-core {version_of(tools)} on Python {controller}", flush=True)
    with tempfile.TemporaryDirectory(prefix="oom-forensics-") as scratch:
        collection = pathlib.Path(scratch, "ansible_collections", "oom", "forensics")
        copy_checkout(collection)
        command = [str(tools / "ansible-test"), "sanity", "--venv", "--python", controller, "--color", "no", *arguments]
        environment = dict(os.environ, HOME=str(HOME), PATH=f"{tools}{os.pathsep}{os.environ.get('PATH', os.defpath)}")
        return subprocess.run(command, cwd=collection, env=environment, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())

# Copyright (c) 2026 oom.forensics contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the scripts beside this file share: where things lie, which Pythons this machine has, virtual environments."""

import fcntl
import hashlib
import os
import pathlib
import subprocess
import sys
from collections.abc import Iterator, Sequence

CHECKOUT = pathlib.Path(__file__).resolve().parents[2]
CACHE = CHECKOUT / ".cache"
COLLECTIONS = CHECKOUT / ".collections"
IN_CI = os.environ.get("CI") == "true"

TARGET_PYTHONS = tuple("3.{0}".format(minor) for minor in range(6, 15))

# A version manager's shim is in PATH for versions that are not installed, and a distribution may ship Python without
# ensurepip: only what runs this can make a virtual environment.
_PROBE = "import ensurepip, sys, venv; print('%d.%d' % sys.version_info[:2])"


def _candidates(version: str) -> Iterator[str]:
    pyenv = pathlib.Path(os.environ.get("PYENV_ROOT") or pathlib.Path.home() / ".pyenv")
    name = f"python{version}"
    yield sys.executable
    yield from (os.path.join(folder, name) for folder in os.environ.get("PATH", os.defpath).split(os.pathsep))
    yield from (str(path) for path in sorted(pyenv.glob(f"versions/{version}.*/bin/python"), reverse=True))
    yield from (f"/usr/bin/{name}", f"/usr/local/bin/{name}")


def _runs(path: str, version: str) -> bool:
    if not os.access(path, os.X_OK):
        return False
    probe = subprocess.run(
        [path, "-c", _PROBE], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=False
    )
    return probe.returncode == 0 and probe.stdout.strip() == version


def find_python(version: str) -> str | None:
    """Path of an executable of Python `version` ("3.6") that runs and can make virtual environments, or None."""
    return next((path for path in dict.fromkeys(_candidates(version)) if _runs(path, version)), None)


def require(problem: str) -> int:
    """Report what this machine lacks: in CI a failure (1), elsewhere a line on the terminal (0)."""
    print(f"{'FAILED' if IN_CI else 'skipped'}: {problem}", flush=True)
    return int(IN_CI)


def make_venv(name: str, python: str, install: Sequence[str]) -> pathlib.Path:
    """The virtual environment .cache/NAME of `python` with `pip install INSTALL`; made anew when either changed.

    One at a time makes it, and others wait.

    Raises subprocess.CalledProcessError, with pip's output as its stdout, when it cannot be made.
    """
    folder = CACHE / name
    stamp = folder / "made-of"
    made_of = "\n".join([os.path.realpath(python), *(_fingerprint(argument) for argument in install)])
    folder.parent.mkdir(parents=True, exist_ok=True)
    with open(f"{folder}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not stamp.is_file() or stamp.read_text() != made_of:
            # -I: a venv made by a venv's Python must not inherit PYTHONPATH.
            _run_quietly([python, "-I", "-m", "venv", "--clear", str(folder)])
            _run_quietly([str(folder / "bin" / "python"), "-m", "pip", "install", "-qq", *install])
            stamp.write_text(made_of)
    return folder / "bin"


def _fingerprint(argument: str) -> str:
    """A requirements file counts with its content."""
    path = CHECKOUT / argument
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else argument


def _run_quietly(command: Sequence[str]) -> None:
    done = subprocess.run(
        command, cwd=CHECKOUT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    done.check_returncode()

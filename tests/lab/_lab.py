# Copyright (c) 2026 oom.forensics contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the parts of the lab share: where its files lie, how a command is run, what a cached thing is called."""

import contextlib
import fcntl
import hashlib
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator

HERE = pathlib.Path(__file__).resolve().parent
CACHE = HERE.parent.parent / ".cache" / "lab"
RECIPES = HERE / "recipes"
SIGNERS = "/usr/share/keyrings/debian-archive-keyring.gpg"


class LabError(Exception):
    """A machine could not be made. The text says what was tried, what came of it, and what to do."""


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def run(*command: str, seconds: float | None = None, **options: object) -> str:
    """The standard output of a command that has to succeed; else LabError with the end of what it printed.

    So is a command that is not done after `seconds`.
    """
    pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    try:
        done = subprocess.run(command, text=True, errors="replace", check=False, timeout=seconds, **pipes, **options)
    except subprocess.TimeoutExpired as error:
        raise LabError(f"{' '.join(command)} was not done after {seconds} s") from error
    if done.returncode:
        end = "\n".join((done.stdout + done.stderr).splitlines()[-20:])
        raise LabError(f"{' '.join(command)} ended with {done.returncode}:\n{end}")
    return done.stdout


def missing(needs: dict[str, str]) -> list[str]:
    """Debian packages that are not here. `needs` says which package has which command or file."""
    return sorted({package for need, package in needs.items() if not (shutil.which(need) or os.path.exists(need))})


def require(needs: dict[str, str]) -> None:
    """Fails for who is not root, and where something that is needed is not here."""
    if os.geteuid() != 0:
        raise LabError("The lab builds systems with mounts and device nodes, so it needs root.")
    packages = missing(needs)
    if packages:
        raise LabError(f"The lab needs packages that are not here: apt-get install {' '.join(packages)}")


def digest(*parts: object) -> str:
    """Twelve hexadecimal digits that change with any of the parts."""
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:12]


def mirror() -> str:
    """Where `debian` and `debian-security` are: LAB_MIRROR, else where this machine's own apt takes them from."""
    given = os.environ.get("LAB_MIRROR")
    known = run("apt-get", "indextargets", "--format", "$(REPO_URI)").split() if given is None else [given + "/debian"]
    found = next((uri.rstrip("/") for uri in known if uri.rstrip("/").endswith("/debian")), None)
    if found is None:
        raise LabError(
            "This machine's apt has no Debian sources. Set LAB_MIRROR to what stands before /debian in a URL."
        )
    return found[: -len("/debian")]


def sources(suite: str) -> str:
    """apt's sources for a Debian suite, its updates and its security fixes."""
    base = mirror()
    archives = (("debian", f"{suite} {suite}-updates"), ("debian-security", f"{suite}-security"))
    return "\n".join(
        f"Types: deb\nURIs: {base}/{archive}\nSuites: {suites}\nComponents: main\nSigned-By: {SIGNERS}\n"
        for archive, suites in archives
    )


@contextlib.contextmanager
def alone() -> Iterator[None]:
    """Only one process builds at a time; a second one finds the first one's work in the cache."""
    CACHE.mkdir(parents=True, exist_ok=True)
    with open(CACHE / "lock", "w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def building(target: pathlib.Path) -> Iterator[pathlib.Path]:
    """A folder that becomes `target` when everything in it is done, and nothing otherwise."""
    with tempfile.TemporaryDirectory(prefix="building-", dir=CACHE) as folder:
        made = pathlib.Path(folder, "made")
        made.mkdir()
        yield made
        made.rename(target)


def bootstrap(suite: str, target: str, packages: tuple[str, ...], *options: str) -> None:
    """Unpacks a Debian system: a folder, or a tar archive where `target` ends in .tar. Needs root, no loop device."""
    with tempfile.NamedTemporaryFile("w", suffix=".sources", dir=CACHE, encoding="utf-8") as listed:
        listed.write(sources(suite))
        listed.flush()
        left_out = [f"--dpkgopt=path-exclude=/usr/share/{each}/*" for each in ("man", "doc", "locale")]
        retries = '--aptopt=Acquire::Retries "3"'
        includes = "--include=" + ",".join(packages)
        run(
            "mmdebstrap",
            "--mode=root",
            "--variant=minbase",
            includes,
            retries,
            *left_out,
            *options,
            suite,
            target,
            listed.name,
        )

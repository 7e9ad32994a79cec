# Copyright (c) 2026 oom.forensics contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run the playbooks under the oldest, the pinned and the newest ansible-core, each also against its oldest target.

A core that no Python here can run is named, and is a failure in CI. Names of cores as arguments choose some of them.
"""

import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from typing import NamedTuple

from _tools import CHECKOUT, find_python, make_venv, require


class Play(NamedTuple):
    """A playbook with its arguments, how it has to end, and what it prints and writes beside the spool."""

    playbook: str
    arguments: tuple[str, ...] = ()
    status: int = 0
    says: str = ""
    writes: str = ""


# A policy that no host takes. In check mode, so that nothing is changed even if one did.
REFUSED = {
    "oom_hosts": "localhost",
    "container_memory_policy_mode": "apply",
    "container_memory_policy_rules": [{"name": "lowest", "match": {"cgroup": "*"}, "memory_max": "4K"}],
}
PLAYS = (
    Play("playbooks/collect_oom.yml", writes="events.json"),
    Play("playbooks/audit_memory.yml", writes="findings.json"),
    Play("playbooks/apply_memory_policy.yml", ("--check", "-e", json.dumps(REFUSED)), 2, "Nothing was changed. "),
)


class Core(NamedTuple):
    """A row of the matrix: what to install, on the first controller Python that is here, against which old target."""

    name: str
    install: tuple[str, ...]
    controllers: tuple[str, ...]
    target: str


CORES = (
    Core("2.16", ("ansible-core~=2.16.0", "-r", "meta/ee-requirements.txt"), ("3.11", "3.10", "3.12"), "3.6"),
    Core("2.19", ("-r", "requirements.txt"), ("3.11", "3.12", "3.13"), "3.8"),
    Core("newest", ("ansible-core", "-r", "meta/ee-requirements.txt"), ("3.13", "3.12", "3.14"), "3.9"),
)


def core_bin(core: Core) -> pathlib.Path | None:
    """The bin folder of a virtual environment with this core, or None when no Python here can run it."""
    python = next(filter(None, map(find_python, core.controllers)), None)
    return make_venv(f"core-{core.name}", python, list(core.install)) if python else None


def play(tools: pathlib.Path, wanted: Play, interpreter: str | None) -> str:
    """Run a playbook with a temporary spool; an empty string, or what went wrong.

    `interpreter` is the target's Python; None leaves it to the shipped inventory: the controller's own.
    """
    with tempfile.TemporaryDirectory(prefix="oom-forensics-") as folder:
        variables = {"oom_evidence_spool": str(pathlib.Path(folder, "spool"))}
        if interpreter:
            variables["ansible_python_interpreter"] = interpreter
        command = [str(tools / "ansible-playbook"), wanted.playbook, *wanted.arguments, "-e", json.dumps(variables)]
        done = subprocess.run(
            command,
            cwd=CHECKOUT,
            env=dict(os.environ, ANSIBLE_CONFIG=str(CHECKOUT / "ansible.cfg"), ANSIBLE_NOCOLOR="1"),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            check=False,
        )
        problem = "\n".join(_problems(wanted, done.returncode, done.stdout, pathlib.Path(folder)))
        return f"{done.stdout}\n{problem}" if problem else ""


def _problems(wanted: Play, status: int, output: str, folder: pathlib.Path) -> Iterator[str]:
    if status != wanted.status:
        yield f"{wanted.playbook} ended with {status}, not {wanted.status}"
    # The words of the failure itself, and not only those of the task that it comes from.
    if wanted.says and output.count(wanted.says) < 2:
        yield f"{wanted.playbook} does not say twice: {wanted.says}"
    if wanted.writes:
        documents = list(folder.rglob(wanted.writes))
        if len(documents) != 1:
            yield f"{len(documents)} files named {wanted.writes} instead of one"
        for document in documents:
            json.loads(document.read_text(encoding="utf-8"))


def version_of(tools: pathlib.Path) -> str:
    asked = [str(tools / "python"), "-c", "import ansible.release; print(ansible.release.__version__)"]
    return subprocess.run(asked, stdout=subprocess.PIPE, text=True, check=True).stdout.strip()


def interpreters(core: Core) -> Iterator[tuple[str, str | None]]:
    """The targets of one row: label and interpreter; None is the shipped inventory's, the controller's own."""
    yield "its own Python", None
    old = find_python(core.target)
    if old:
        yield f"Python {core.target}", old


def check(core: Core) -> int:
    """Number of failures of one row."""
    tools = core_bin(core)
    if not tools:
        wanted = " or ".join(core.controllers)
        return require(f"ansible-core {core.name} needs Python {wanted}: none is on this machine")
    version, failures = version_of(tools), 0
    targets = list(interpreters(core))
    if len(targets) < 2:
        failures += require(f"Python {core.target} is not on this machine, so ansible-core {version} did not run on it")
    for label, interpreter in targets:
        started = time.monotonic()
        problem = "\n".join(filter(None, (play(tools, each, interpreter) for each in PLAYS)))
        failures += bool(problem)
        verdict = f"FAILED\n{problem}" if problem else "ok"
        print(f"ansible-core {version} on {label}: {verdict} ({time.monotonic() - started:.1f} s)", flush=True)
    return failures


def main() -> int:
    wanted = sys.argv[1:] or [core.name for core in CORES]
    return int(sum(check(core) for core in CORES if core.name in wanted) > 0)


if __name__ == "__main__":
    sys.exit(main())

# Copyright (c) 2026 oom.forensics contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run the unit tests on the controller's Python and on every target Python that this machine has.

The controller's run (the Python of this script) has everything. The others run the target side: no hypothesis, no
ansible-core. Extra arguments go to pytest. Ends with one line that adds up all runs.
"""

import concurrent.futures
import os
import pathlib
import subprocess
import sys
from typing import NamedTuple
from xml.etree import ElementTree

from _tools import CACHE, CHECKOUT, COLLECTIONS, TARGET_PYTHONS, find_python, make_venv, require

# Pythons that a machine may lack even in CI: nothing promises them yet.
OPTIONAL = {"3.14"}
# More than processors: the tests of tracers wait most of their time.
AT_ONCE = 1 + (os.cpu_count() or 1)

TESTS = "tests/unit"
CONTROLLER_ONLY = tuple(f"--ignore={TESTS}/plugins/{folder}" for folder in ("action", "filter", "plugin_utils"))
TARGET_SIDE = (*CONTROLLER_ONLY, "--ignore-glob=*_property.py")


class Run(NamedTuple):
    """One pytest run: whose, and how many tests did what."""

    name: str
    passed: int
    failed: int
    skipped: int
    output: str


def run_tests(name: str, python: str, selection: tuple[str, ...]) -> Run:
    """Run pytest with the interpreter `python`. A run that breaks before it reports counts as one failure."""
    report = CACHE / "unit" / f"{name}.xml"
    report.parent.mkdir(parents=True, exist_ok=True)
    report.unlink(missing_ok=True)
    environment = dict(os.environ, PYTHONPATH=str(COLLECTIONS), PYTHONDONTWRITEBYTECODE="1")
    command = [python, "-m", "pytest", "-q", "--tb=short", f"--junitxml={report}", *selection, TESTS, *sys.argv[1:]]
    done = subprocess.run(
        command,
        cwd=CHECKOUT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        check=False,
    )
    passed, failed, skipped = counts(report)
    if done.returncode and not failed:
        failed = 1
    return Run(name, passed, failed, skipped, done.stdout)


def counts(report: pathlib.Path) -> tuple[int, int, int]:
    """Passed, failed and skipped tests of a junit file; zeros when pytest wrote none."""
    if not report.is_file():
        return 0, 0, 0
    suites = list(ElementTree.parse(report).getroot().iter("testsuite"))
    total, failures, errors, skipped = (
        sum(int(suite.get(key, "0")) for suite in suites) for key in ("tests", "failures", "errors", "skipped")
    )
    return total - failures - errors - skipped, failures + errors, skipped


def run_target(version: str) -> Run | None:
    """The target side's tests on Python `version`, or None when this machine has no such Python."""
    python = find_python(version)
    if not python:
        return None
    name = f"python{version}"
    try:
        made = make_venv(f"unit/py{version}", python, ["-r", "requirements-unit.txt"])
    except subprocess.CalledProcessError as problem:
        return Run(name, 0, 1, 0, f"{problem.stdout}\n{problem}")
    return run_tests(name, str(made / "python"), TARGET_SIDE)


def show(run: Run) -> None:
    if run.failed:
        print(run.output)
    print(f"{run.name}: {run.passed} passed, {run.failed} failed, {run.skipped} skipped", flush=True)


def main() -> int:
    own = "{0}.{1}".format(*sys.version_info)
    others = [version for version in TARGET_PYTHONS if version != own]
    runs, missing = [], 0
    with concurrent.futures.ThreadPoolExecutor(AT_ONCE) as pool:
        controller = pool.submit(run_tests, f"python{own} (controller)", sys.executable, ())
        targets = {version: pool.submit(run_target, version) for version in others}
        runs.append(controller.result())
        show(runs[-1])
        for version, future in targets.items():
            run = future.result()
            if run:
                runs.append(run)
                show(run)
            elif version in OPTIONAL:
                print(f"skipped: Python {version} is not on this machine", flush=True)
            else:
                missing += require(f"Python {version} is not on this machine, so nothing ran on it")
    passed, failed = sum(run.passed for run in runs), sum(run.failed for run in runs) + missing
    print(f"unit tests on {len(runs)} Pythons: {passed} passed, {failed} failed")
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())

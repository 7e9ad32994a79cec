# Copyright (c) 2026 oom.forensics contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Containers of the lab: systemd as PID 1 under Podman, from an image of Debian packages or one that the user names."""

import contextlib
import os
import time

from _lab import CACHE, HERE, SIGNERS, LabError, alone, bootstrap, digest, require, run, say, sources

NEEDS = {SIGNERS: "debian-archive-keyring", "mmdebstrap": "mmdebstrap", "podman": "podman", "runc": "runc"}
PACKAGES = ("systemd-sysv", "dbus", "python3", "procps", "ca-certificates")
CHANGES = ('CMD ["/lib/systemd/systemd"]', "STOPSIGNAL SIGRTMIN+3", "ENV container=podman")
START_SECONDS = 300
# Only containers with this label are ever removed.
LABEL = "oom.forensics.lab=true"


def podman(*arguments: str) -> str:
    # What the lab asks of Podman beyond its defaults; a user's own choice wins.
    environment = {"CONTAINERS_CONF": str(HERE / "containers.conf"), **os.environ}
    return run("podman", *arguments, env=environment)


def image_of(suite: str) -> str:
    """The name of the suite's image, built and imported if Podman does not have it."""
    name = f"localhost/oom-lab-{suite}:{digest(PACKAGES, CHANGES, sources(suite))}"
    with contextlib.suppress(LabError):
        podman("image", "exists", name)
        return name
    say(f"Building {name}. This takes about a minute.")
    archive = CACHE / f"container-{os.getpid()}.tar"
    try:
        bootstrap(suite, str(archive), PACKAGES)
        podman("import", *(f"--change={each}" for each in CHANGES), str(archive), name)
    finally:
        archive.unlink(missing_ok=True)
    return name


def create(name: str, suite: str, image: str | None) -> None:
    """A container whose systemd has started."""
    require(NEEDS)
    destroy(name)
    with alone():
        image = image or image_of(suite)
    podman(
        "run",
        "--detach",
        "--name",
        name,
        "--hostname",
        name,
        "--label",
        LABEL,
        "--systemd=always",
        "--network=none",
        "--memory=256m",
        image,
    )
    end = time.monotonic() + START_SECONDS
    state = ""
    while time.monotonic() < end:
        # Ends with an error in every state but "running".
        state = podman("exec", name, "sh", "-c", "systemctl is-system-running || :").strip()
        if state in ("running", "degraded"):
            return
        time.sleep(0.5)
    raise LabError(f"systemd in {name} was still {state} after {START_SECONDS} s")


def destroy(name: str) -> None:
    """Removes the container if create() made it."""
    with contextlib.suppress(LabError, FileNotFoundError):
        if podman("ps", "--all", "--quiet", "--filter", f"label={LABEL}", "--filter", f"name=^{name}$"):
            podman("rm", "--force", "--time=3", name)

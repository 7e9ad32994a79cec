# Copyright (c) 2026 oom.forensics contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The tracing service of the role oom_trace: traces until it is stopped, and logs one line for each kill.

The role writes this file, and those that it imports, into one program. Private to this collection.
"""

import argparse
import os
import socket
import sys
from typing import List, Optional

from .._oom import traces
from . import run, tracers
from .tracer_backends import AUTO, BACKENDS

# sd-daemon(3): what journald takes as the line's priority.
_WARNING, _NOTICE, _ERROR = "<4>", "<5>", "<3>"


def notify(state: str, path: Optional[str]) -> None:
    """Tell systemd (sd_notify(3)); nothing where it does not listen."""
    if not path:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as channel:
        try:
            channel.sendto(state.encode("utf-8", "replace"), "\0" + path[1:] if path.startswith("@") else path)
        except OSError as error:
            say(_ERROR, "systemd could not be told that tracing began: {0}.".format(run.reason(error)))


def say(priority: str, text: str) -> None:
    """Write one line to the journal."""
    sys.stdout.write(priority + text.replace("\n", " ") + "\n")
    sys.stdout.flush()


def serve(host: run.Host, backend: str, attach_seconds: float) -> int:
    """Trace until a signal; returns the exit status."""

    def started(name: str) -> None:
        say(_NOTICE, "Tracing OOM kills with {0}.".format(name))
        notify("READY=1\nSTATUS=Tracing OOM kills with {0}".format(name), os.environ.get("NOTIFY_SOCKET"))

    def seen(kill: traces.Kill) -> bool:
        say(_WARNING, traces.dump(kill))
        return False

    request = tracers.Request(backend=backend, attach_seconds=attach_seconds, connection=False)
    try:
        result = tracers.trace(host, request, tracers.Hooks(started, seen))
    except tracers.TraceError as error:
        say(_ERROR, str(error))
        return 1
    if result["lost"]:
        say(_ERROR, "{0} lost OOM kills: {1}.".format(result["backend"], result["lost"]))
    for left in result["left"]:
        say(_ERROR, "{0} could not be taken away.".format(left))
    if result["ended_by"] == "signal":
        return 0
    say(_ERROR, "{0} ended: {1}.".format(result["backend"], result["error"]))
    return 1


def main(arguments: List[str]) -> int:
    parser = argparse.ArgumentParser(prog=traces.SERVICE, description="Log every OOM kill with its trigger and cgroup.")
    parser.add_argument("--backend", choices=(AUTO, *BACKENDS), default=AUTO)
    parser.add_argument("--attach-timeout", type=float, default=120.0, metavar="SECONDS")
    options = parser.parse_args(arguments)
    return serve(run.Host(), options.backend, options.attach_timeout)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))  # pylint: disable=ansible-bad-function

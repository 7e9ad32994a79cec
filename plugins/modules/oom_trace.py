#!/usr/bin/python
# Copyright (c) 2026 oom.forensics contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

DOCUMENTATION = r"""
module: oom_trace
short_description: Watch OOM kills as they happen
version_added: 0.1.0
author:
  - oom.forensics contributors (@oom-forensics)
description:
  - Attaches a tracer to the kernel's OOM killer for a bounded time and returns every kill that happens meanwhile, in
    the schema of M(oom.forensics.oom_events_info). A kill has its trigger and its victim even where the kernel has left
    out its report, of which it prints ten in five seconds at most.
  - The kernel's own report of a kill, where a log has it, and what the tracer saw become one event.
  - Takes the best tracer that works on the host and says why the better ones do not. None of them is installed by this
    module; the last one needs no package.
  - The time counts from the moment when the tracer is attached, which takes bcc several seconds.
  - Nothing is left behind, whatever ends the trace, be it the time, a signal, a lost connection, or SIGKILL. There is
    no probe, no ftrace instance, no process. What else is traced on the host is not disturbed.
extends_documentation_fragment:
  - oom.forensics._attributes
  - oom.forensics._attributes.platform
attributes:
  check_mode:
    support: none
    details:
      - A trace attaches a probe. The task is skipped in check mode.
  diff_mode:
    support: N/A
    details:
      - Nothing of the host is changed.
  idempotent:
    support: full
    details:
      - The host is as before, and the task is never changed.
  async:
    description: Supports being used with the C(async) keyword.
    support: full
    details:
      - The time of C(async) has to be longer than O(duration) and O(attach_timeout) together, and that once for each
        attempt, of which O(backend=auto) makes four and O(backend=bpftrace) two. An overdue task is killed by Ansible.
options:
  backend:
    description:
      - What to trace with. V(auto) takes the first one that works, in the order of this list.
      - V(bpftrace) runs a program of this collection, which alone knows the cgroup of the victim and of the limit from
        the kernel, or, where it has no BTF or the program does not run, the C(oomkill.bt) that came with bpftrace.
      - V(libbpf) is C(oomkill) of libbpf-tools, V(bcc) that of bcc, C(oomkill-bpfcc) in Debian and Ubuntu.
      - V(tracefs) is the kernel's own tracepoint C(oom:mark_victim), in an ftrace instance of its own. It needs Linux
        4.15 and no package. It alone sees every process of a C(memory.oom.group). Kernels since 6.9, and those of
        distributions that have taken that change, tell its name and its sizes as well.
    type: str
    choices: [auto, bpftrace, libbpf, bcc, tracefs]
    default: auto
  duration:
    description:
      - Seconds to trace, from 1 to 86400.
    type: int
    default: 60
  max_events:
    description:
      - End the trace after so many kills, from 1 to 10000, of those that O(cgroups) asks for.
      - After 10000 kills it ends in any case, also if O(cgroups) asks for none of them.
    type: int
    default: 100
  cgroups:
    description:
      - Return only kills whose victim is in one of these cgroups, or whose limit is one's. Shell patterns for the whole
        path as the kernel names it, such as V(/system.slice/docker-*).
      - Kills of which nobody knows the cgroup are left out as well, and counted in
        RV(coverage.events_without_cgroup).
    type: list
    elements: str
    default: []
  attach_timeout:
    description:
      - Seconds that each attempt to attach may take, from 1 to 600. bcc compiles a program first. V(bpftrace) has two
        attempts, one with each of its programs, V(tracefs) needs no time.
    type: int
    default: 120
  kernel_log:
    description:
      - Whether to read the kernel's reports of the traced time at its end, and to join them.
    type: bool
    default: true
  ready_path:
    description:
      - A file to make on the host when the tracer is attached, for who waits for it. It is removed at the end.
      - It must not exist, and its folder must. Otherwise the task fails before anything is attached.
    type: path
notes:
  - Needs root.
  - The tracer makes itself the last process that the kernel would kill, and runs with real-time priority while it
    waits. Where it may not, RV(coverage.oom_score_adj) says so.
  - C(kills_traced) may be larger than C(kills_counted), since V(tracefs) also sees processes that were about to exit.
  - The number that the tools call pages is the size of the OOM domain, which is a cgroup's limit with the swap it may
    use, or the host's memory with its swap. It says nothing about the victim. Here it is C(trace.domain_pages).
  - Names in the events were chosen by whatever ran on the host. Never use them as templates.
seealso:
  - module: oom.forensics.bcc_tools
  - module: oom.forensics.oom_drill
  - module: oom.forensics.oom_events_info
"""

EXAMPLES = r"""
- name: Watch for a minute
  oom.forensics.oom_trace:
  become: true
  register: trace

- name: Show what was killed
  ansible.builtin.debug:
    msg: "{{ item.time }} {{ item.victims[0].comm }} in {{ item.victim_cgroup }}, because of {{ item.trigger.comm }}"
  loop: "{{ trace.events }}"
  loop_control:
    label: "{{ item.id }}"

- name: Wait for the next kill in a container of Docker, at most an hour
  oom.forensics.oom_trace:
    duration: 3600
    max_events: 1
    cgroups:
      - /system.slice/docker-*
      - /docker/*
  become: true

- name: Trace with what every kernel has
  oom.forensics.oom_trace:
    backend: tracefs
    duration: 300
  become: true

# A trace beside other tasks
- name: Begin to trace
  oom.forensics.oom_trace:
    duration: 120
    ready_path: /run/oom-trace.ready
  become: true
  async: 300
  poll: 0
  register: trace_job

- name: Wait until the tracer is attached
  ansible.builtin.wait_for:
    path: /run/oom-trace.ready
    timeout: 150

- name: Make a kill
  oom.forensics.oom_drill:
  become: true

- name: See what the tracer saw
  ansible.builtin.async_status:
    jid: "{{ trace_job.ansible_job_id }}"
  become: true
  register: trace
  until: trace is finished
  retries: 60
  delay: 5
"""

RETURN = r"""
msg:
  description: One line about the trace.
  returned: always
  type: str
  sample: bcc saw 2 OOM kills in 60 seconds
backend:
  description: The backend that was attached.
  returned: when a backend was attached
  type: str
  sample: bcc
backends:
  description: One entry for each backend, in the order in which they were tried.
  returned: always
  type: list
  elements: dict
  contains:
    backend: {description: Its name., type: str, sample: libbpf}
    state: {description: "V(attached), V(unavailable), or V(not_tried).", type: str, sample: unavailable}
    reason: {description: "Why it is unavailable, a sentence.", type: str, sample: bpftrace is not installed.}
    seconds: {description: How long the attempt took., type: float, sample: 19.8}
events:
  description:
    - One entry per kill, oldest first, with the keys that M(oom.forensics.oom_events_info) documents and one more. At
      most O(max_events), and at most 256 KiB; those that were traced are kept first, then the newest.
    - Null is what neither the tracer nor the kernel's report says.
  returned: always
  type: list
  elements: dict
  contains:
    trace:
      description: What only a tracer tells. Null in a kill that no tracer saw.
      type: dict
      contains:
        backend: {description: What saw the kill., type: str, sample: bcc}
        loadavg:
          description: C(/proc/loadavg) at the kill.
          type: str
          sample: 0.44 0.13 0.04 4/199 4242
        domain_pages:
          description: >-
            The size of the OOM domain in pages, a cgroup's limit with the swap it may use, or the host's memory with
            its swap. Not the size of the victim. Null with V(tracefs).
          type: int
          sample: 4096
  sample:
    - id: 0f3a1c5e7b9d2f40
      time: "2026-11-22T21:50:30.898260Z"
      time_source: trace
      scope: memcg
      trigger: {pid: 4242, comm: apk}
      victim_cgroup: /system.slice/docker-4f1c2a.scope
      victims: [{pid: 4242, comm: apk, cgroup: /system.slice/docker-4f1c2a.scope}]
      trace: {backend: bcc, loadavg: 0.44 0.13 0.04 4/199 4242, domain_pages: 4096}
coverage:
  description: What was and what was not seen.
  returned: when a backend was attached
  type: dict
  contains:
    started: {description: When the tracer was attached., type: str, sample: "2026-11-22T21:49:31.000000Z"}
    ended: {description: When the trace ended., type: str, sample: "2026-11-22T21:50:31.000000Z"}
    seconds: {description: The time between., type: float, sample: 60.0}
    attach_seconds: {description: How long attaching took., type: float, sample: 19.8}
    ended_by:
      description: "V(duration), V(max_events), V(signal), V(connection), or V(tracer) if it ended by itself."
      type: str
      sample: duration
    kills_traced: {description: "Kills that the tracer saw, before they were filtered.", type: int, sample: 2}
    kills_counted:
      description: Kills that the kernel counted meanwhile. Null before Linux 4.13.
      type: int
      sample: 2
    kills_lost: {description: "Kills of which the backend says it lost something, at least.", type: int, sample: 0}
    kills_untraced: {description: Kills that were counted and not traced., type: int, sample: 0}
    events_total: {description: Events before they were filtered and cut., type: int, sample: 2}
    events_filtered: {description: Events that are in none of O(cgroups)., type: int, sample: 0}
    events_without_cgroup: {description: Those of them whose cgroup nobody knows., type: int, sample: 0}
    events_returned: {description: Events that are returned., type: int, sample: 2}
    truncated: {description: Whether events were left out because there were too many., type: bool, sample: false}
    oom_score_adj:
      description: How the tracer was protected from the OOM killer. V(-900) unless the host did not let it.
      type: int
      sample: -900
cleaned_up:
  description: Whether nothing of the trace is left.
  returned: always
  type: bool
  sample: true
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.oom.forensics.plugins.module_utils._budget import fit, newest, summarize
from ansible_collections.oom.forensics.plugins.module_utils._host import kmsg, run, tracer_events, tracers
from ansible_collections.oom.forensics.plugins.module_utils._options import OptionError, utf8
from ansible_collections.oom.forensics.plugins.module_utils._trace_options import MOST_EVENTS, TRACE_SPEC, check

RESULT_BYTES = 262144
# What ended a trace that was to go on: the task has failed, with what was seen until then.
FAILURES = {
    "signal": "The trace was interrupted by signal {signal}; events has what was seen until then.",
    "connection": "The connection was lost; events has what was seen until then.",
    "tracer": "{backend} ended while it traced: {error}; events has what was seen until then. Run the task again.",
}


def run_trace(host, params, log):
    """Trace as the options say. Returns what tracers.trace does, the kills, and what the kernel printed meanwhile."""
    seen = tracer_events.Seen(tracer_events.Wanted(params["cgroups"]), params["max_events"], MOST_EVENTS)
    printed = []

    def started(name):
        log(name)
        if params["kernel_log"]:
            printed.append(kmsg.Span(host))

    request = tracers.Request(
        backend=params["backend"],
        seconds=params["duration"],
        attach_seconds=params["attach_timeout"],
        ready_path=params["ready_path"],
    )
    outcome = tracers.trace(host, request, tracers.Hooks(started, seen))
    for span in printed:
        span.end()
    return outcome, seen.kills, printed[0] if printed else None


def shape_result(host, params, outcome, kills, printed):
    """The module's result of a trace."""
    wanted = tracer_events.Wanted(params["cgroups"])
    events, coverage = tracer_events.of_trace(host, kills, outcome, wanted, printed)
    coverage.update((key, outcome[key]) for key in ("attach_seconds", "ended_by", "oom_score_adj"))
    kept = newest(events, params["max_events"])
    coverage.update(truncated=len(kept) < len(events), events_returned=len(kept))
    result = fit([summarize(event) for event in utf8(kept)], coverage, RESULT_BYTES)
    text = "{0} saw {1} OOM kill{2} in {3:.0f} seconds".format(
        outcome["backend"], len(kills), "" if len(kills) == 1 else "s", coverage["seconds"]
    )
    result.update(msg=text, backend=outcome["backend"], backends=outcome["attempts"], cleaned_up=not outcome["left"])
    return result


def warn(module, outcome):
    """Say what did not go as it should."""
    if outcome["left"]:
        module.warn("The trace could not take away {0}; remove it.".format(", ".join(outcome["left"])))
    if outcome["oom_score_adj"] is None or outcome["oom_score_adj"] > tracers.OOM_SCORE_ADJ:
        module.warn(
            "The tracer could not protect itself from the OOM killer: its oom_score_adj is {0}, and to lower it needs "
            "CAP_SYS_RESOURCE.".format(outcome["oom_score_adj"])
        )


def main():
    module = AnsibleModule(argument_spec=TRACE_SPEC, supports_check_mode=False)
    try:
        check(module.params)
    except OptionError as error:
        module.fail_json(msg=str(error), backends=[], events=[], cleaned_up=True)
    host = run.Host()
    try:
        outcome, kills, printed = run_trace(
            host, module.params, lambda name: module.log("Tracing OOM kills with {0}.".format(name))
        )
    except tracers.TraceError as error:
        module.fail_json(msg=str(error), backends=error.attempts, events=[], cleaned_up=not error.left)
    result = shape_result(host, module.params, outcome, kills, printed)
    warn(module, outcome)
    failure = FAILURES.get(outcome["ended_by"])
    if failure:
        module.fail_json(**dict(result, msg=failure.format(**outcome)))
    module.exit_json(changed=False, **result)


if __name__ == "__main__":
    main()

#!/usr/bin/python
# Copyright (c) 2026 oom.forensics contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

DOCUMENTATION = r"""
---
module: bcc_tools
short_description: Install what the running kernel needs to trace OOM kills
version_added: 0.1.0
author:
  - oom.forensics contributors (@oom-forensics)
description:
  - Installs bcc's C(oomkill), or another tracer of OOM kills, and the headers of the B(running) kernel if that tracer
    needs them, through the module that Ansible has for the host's package manager.
  - Finds out before anything is installed whether that can work. Looks at the kernel's headers, at the headers that a
    kernel may bring itself (kheaders), at BTF, tracefs, lockdown, the task's capabilities and its container, and asks
    the package manager to rehearse.
  - Each way that this can end has a name, RV(outcome), and a sentence that says what to do, RV(msg).
  - Remembers on the host, in C(/var/lib/oom-forensics/bcc_tools.json), which packages the host did not have before.
    O(state=absent) removes exactly those, together with that file.
  - If the installation fails, what it had installed so far is removed again. If the disk was full, apt's downloaded
    packages are given up first, as it needs room even to remove.
  - This is an action plugin. The part that looks at the host is a module which the action runs there.
options:
  state:
    description:
      - V(present) makes sure that a backend works on the running kernel.
      - V(latest) does that and upgrades the backend's package.
      - V(absent) removes what this collection installed and nobody else needs, nothing else.
    type: str
    choices: [present, latest, absent]
    default: present
  backend:
    description:
      - The tracer to install.
      - V(bpftrace) needs BTF and no headers. It alone tells the cgroup of the limit.
      - V(libbpf) is C(oomkill) of libbpf-tools, the smallest. It needs BTF and no headers.
      - V(bcc) is C(oomkill-bpfcc) or C(/usr/share/bcc/tools/oomkill). It compiles against the headers of the running
        kernel, or its kheaders, whenever it starts.
      - V(tracefs) is the event C(oom:mark_victim) of the kernel itself. It needs no package.
      - V(auto) takes the first of V(bpftrace), V(libbpf) and V(bcc) that is installed and works, in the order of
        M(oom.forensics.oom_trace). If there is none, it installs V(bcc), which brings its other tools along. Where that
        cannot be had it takes the first of V(bpftrace), V(libbpf) and V(tracefs) that can. RV(refused) says why.
    type: str
    choices: [auto, bpftrace, libbpf, bcc, tracefs]
    default: auto
  headers:
    description:
      - V(auto) installs the headers of the running kernel if the backend needs them and neither they nor kheaders are
        there.
      - V(always) installs them for every backend but V(tracefs) if they are not there.
      - V(never) installs no headers.
    type: str
    choices: [auto, always, never]
    default: auto
  update_cache:
    description:
      - Whether to fetch the package lists before something is installed, if they are not there or older than an hour.
      - Only where the package manager does not do so by itself, which is to say, with apt.
    type: bool
    default: true
  lock_timeout:
    description:
      - How many seconds to wait for somebody else who uses the package manager. Where Ansible's module for it can wait,
        which those for apt and dnf can, it waits as long for whoever comes in between.
    type: int
    default: 60
  remember:
    description:
      - Set by the action. Packages that are about to be installed and that the host does not have, to be remembered.
    type: list
    elements: dict
    suboptions:
      name:
        description: Name of the package.
        type: str
        required: true
      version:
        description: Its version, if several may be installed side by side.
        type: str
  before:
    description:
      - Set by the action. The names of all packages that were installed before Ansible's module for the package manager
        installed what it needs itself. What is new since then is remembered.
    type: list
    elements: str
  settle:
    description:
      - Set by the action. Whether to forget the packages that are not installed.
    type: bool
    default: false
  only:
    description:
      - Set by the action. The names that O(state=absent) is about, all that are remembered by default.
    type: list
    elements: str
extends_documentation_fragment:
  - oom.forensics._attributes
  - oom.forensics._attributes.platform
attributes:
  check_mode:
    support: full
    details:
      - The package manager rehearses on the host. Nothing is written there, package lists are not fetched.
      - Where package lists were never fetched, the outcome is V(package_lists_missing) and the packages are not known.
  diff_mode:
    support: full
    details:
      - Shows every package with its version that comes, goes or changes.
  idempotent:
    support: full
notes:
  - Needs root, so C(become) for most.
  - On SUSE, Arch and Alpine Linux the action M(ansible.builtin.package) is used, which needs the module of
    C(community.general) for their package managers on the controller.
  - Recommended packages are not installed.
  - What O(state=absent) does not undo is upgrades of packages that the host had before, fetched package lists, and
    packages in the package manager's cache.
seealso:
  - module: oom.forensics.oom_trace
    description: Traces with what is installed.
  - module: oom.forensics.oom_events_info
    description: Reads the kills from the logs, which needs no tracer.
"""

EXAMPLES = r"""
- name: Make the running kernel traceable
  oom.forensics.bcc_tools:
  become: true
  register: tools

- name: Say what will trace OOM kills here
  ansible.builtin.debug:
    msg: "{{ inventory_hostname }}: {{ tools.backend }} ({{ tools.tool }}), {{ tools.outcome }}"

- name: Install as little as possible, and never headers
  oom.forensics.bcc_tools:
    backend: libbpf
    headers: never
  become: true

- name: Go on where the headers of a kernel are not to be had any more
  oom.forensics.bcc_tools:
    backend: bcc
  become: true
  register: tools
  failed_when: tools.failed and tools.outcome not in ['headers_gone_from_repository', 'headers_forbidden']

- name: Leave the host as it was found
  oom.forensics.bcc_tools:
    state: absent
  become: true
"""

RETURN = r"""
outcome:
  description:
    - What came of it. In check mode what would.
    - V(ready), nothing had to be installed.
    - V(installed), the tool or the headers, or both.
    - V(headers_present), the tool was installed, and the headers were there.
    - V(kheaders_suffice), the tool was installed, and the kernel brings its headers itself.
    - V(btf_makes_headers_needless), a tool was installed that takes the kernel's types from BTF.
    - V(tracefs_suffices), the kernel's own event is used, nothing was installed.
    - V(removed), V(nothing_to_remove).
    - With these the task fails, and nothing was changed. V(lockdown), V(container_host_denied),
      V(missing_capability), V(unsupported_distribution), V(image_based_host), V(package_manager_missing),
      V(no_header_package_for_custom_kernel), V(newer_kernel_installed_not_booted), V(headers_gone_from_repository),
      V(headers_forbidden), V(tools_not_in_repository), V(package_lists_missing), V(no_btf), V(no_tracefs),
      V(package_manager_locked), V(package_manager_refused), V(would_remove_packages), V(disk_full),
      V(still_needed), V(record_unreadable), V(record_not_written), V(repository_unreachable),
      V(package_module_missing).
    - V(package_module_failed), and the outcomes V(disk_full), V(package_manager_locked) and V(repository_unreachable)
      may come during the installation too. Then RV(rolled_back) says whether the host is as before.
    - V(not_ready_after_install), all was installed, and the tool or the headers are still not there.
  returned: always
  type: str
  sample: installed
msg:
  description: What was found and what to do, in a sentence.
  returned: always
  type: str
  sample: The headers of 6.1.0-56-amd64 are in the repository. Installed 12 packages.
backend:
  description: The tracer to use. Null if none can be used, and for O(state=absent).
  returned: always
  type: str
  sample: bcc
tool:
  description: Path of the tracer's program. Null for V(tracefs), and where it is not installed.
  returned: always
  type: str
  sample: /usr/sbin/oomkill-bpfcc
refused:
  description: The backends that were considered before RV(backend) and why they were not taken.
  returned: always
  type: list
  elements: dict
  contains:
    backend:
      description: The backend.
      type: str
      sample: bcc
    outcome:
      description: Why not, as in RV(outcome).
      type: str
      sample: headers_gone_from_repository
    sentence:
      description: Why not, and what to do.
      type: str
      sample: No repository has linux-headers-6.1.0-40-amd64; upgrade the kernel and reboot, or add a repository that
        keeps old packages.
kernel:
  description: The running kernel.
  returned: always
  type: str
  sample: 6.1.0-56-amd64
newer_kernel:
  description: The newest kernel that is installed and newer than the running one.
  returned: always
  type: str
  sample: null
distribution:
  description: The row of the table that the host's distribution belongs to. Null if there is none.
  returned: always
  type: str
  sample: Debian
package_manager:
  description: Its package manager.
  returned: always
  type: str
  sample: apt
headers_package:
  description: The package of the running kernel's headers, the installed one or the one that would be. Else null.
  returned: always
  type: str
  sample: linux-headers-6.1.0-56-amd64
headers_version:
  description: Its version.
  returned: always
  type: str
  sample: 6.1.192-2
headers_path:
  description: Where the headers of the running kernel are. Null if they are not there or not complete.
  returned: always
  type: str
  sample: /lib/modules/6.1.0-56-amd64/build
headers_complete:
  description: Whether the headers of the running kernel are there and complete.
  returned: always
  type: bool
  sample: true
kheaders:
  description: Where the kernel's own copy of its headers is, or the module that brings it. Null if it has none.
  returned: always
  type: str
  sample: null
btf:
  description: Whether the running kernel has BTF.
  returned: always
  type: bool
  sample: true
tracefs_event:
  description: The format file of the event C(oom:mark_victim). Null if it is not there.
  returned: always
  type: str
  sample: /sys/kernel/tracing/events/oom/mark_victim/format
lockdown:
  description: V(none), V(integrity) or V(confidentiality). Null where the kernel does not know lockdown.
  returned: always
  type: str
  sample: none
capabilities:
  description: The capabilities of the task that matter here.
  returned: always
  type: list
  elements: str
  sample: [CAP_SYS_ADMIN, CAP_PERFMON, CAP_BPF]
container:
  description: The kind of container that the host is. Null if it is none.
  returned: always
  type: str
  sample: null
tools:
  description: The path of each backend's program, null where it is not installed.
  returned: always
  type: dict
  sample: {bcc: /usr/sbin/oomkill-bpfcc, libbpf: null, bpftrace: null, tracefs: null}
packages_installed:
  description: Packages that were installed, or would be, their dependencies among them.
  returned: always
  type: list
  elements: dict
  contains: &package
    name:
      description: Name of the package.
      type: str
      sample: bpfcc-tools
    version:
      description: Its version, null if not known.
      type: str
      sample: 0.26.0+ds-1
packages_upgraded:
  description: Packages that were upgraded, or would be.
  returned: always
  type: list
  elements: dict
  contains:
    <<: *package
    replaces:
      description: The version before.
      type: str
      sample: 0.25.0+ds-1
packages_removed:
  description: Packages that were removed, or would be.
  returned: always
  type: list
  elements: dict
  contains: *package
packages_kept:
  description: Packages that this collection had installed and that O(state=absent) left there, as others need them.
  returned: always
  type: list
  elements: str
  sample: []
rolled_back:
  description: Whether everything that a failed installation had brought was removed again.
  returned: when an installation failed
  type: bool
  sample: true
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.oom.forensics.plugins.module_utils import _bcc_answer
from ansible_collections.oom.forensics.plugins.module_utils._bcc_spec import MODULE_SPEC
from ansible_collections.oom.forensics.plugins.module_utils._host import run
from ansible_collections.oom.forensics.plugins.module_utils._options import utf8


def main():
    module = AnsibleModule(argument_spec=MODULE_SPEC, supports_check_mode=True)
    module.exit_json(changed=False, **utf8(_bcc_answer.answer(run.Host(), module.params, module.check_mode)))


if __name__ == "__main__":
    main()

# Copyright (c) 2026 oom.forensics contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Virtual machines of the lab: a Debian image, a snapshot of it booted, and copies of the snapshot that run.

In the cache, each under a digest of everything that it was made from:

    image-SUITE-DIGEST/     the disk, the kernel, the key to log in with, the host's key
    booted-SUITE-DIGEST/    an overlay of that disk with the state of the booted machine in it
    run-NAME/               a copy of that overlay, and the process that works on it
"""

import contextlib
import json
import os
import pathlib
import shlex
import shutil
import signal
import socket
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

from _lab import CACHE, RECIPES, SIGNERS, LabError, alone, bootstrap, building, digest, require, run, say, sources

MEMORY_MIB = 2048
# The first boot of an emulated machine took 17 s alone and 285 s beside two others.
BOOT_SECONDS = 900
# With working hardware a boot takes about 5 s. A broken one opens the device and hangs before the first line.
KVM_BOOT_SECONDS = 90
RESTORE_SECONDS = 300
# Waits until every unit has started; then empties caches, which the snapshot need not keep.
SETTLE = "systemctl is-system-running --wait || { systemctl --failed; exit 1; }; sync; echo 3 >/proc/sys/vm/drop_caches"

# A mirror has the headers of Debian's newest kernels, and an image has the newest kernel of the day it was built.
IMAGE_DAYS = 7

# What the commands of this file are called, and in which package of Debian they are.
NEEDS = {
    SIGNERS: "debian-archive-keyring",
    "mke2fs": "e2fsprogs",
    "mmdebstrap": "mmdebstrap",
    "qemu-img": "qemu-utils",
    "qemu-system-x86_64": "qemu-system-x86",
    "ssh": "openssh-client",
    "ssh-keygen": "openssh-client",
}

PACKAGES = (
    *("systemd-sysv", "dbus", "udev", "kmod", "libpam-systemd", "e2fsprogs", "linux-image-amd64"),
    *("openssh-server", "sudo", "python3", "python3-apt", "procps", "iproute2", "iptables", "ca-certificates"),
    *("zstd", "xz-utils", "busybox-static"),
    # Without apparmor_parser docker refuses every container. No recommended package is installed, so that what podman
    # needs for pods and for its configuration is named too.
    *("apparmor", "docker.io", "podman", "runc", "crun", "conmon", "catatonit", "golang-github-containers-common"),
)
SUITE_PACKAGES = {
    "bullseye": (),
    "bookworm": ("netavark", "aardvark-dns"),
    "trixie": ("netavark", "aardvark-dns", "docker-cli"),
}
HOOKS = (RECIPES / "vm-initramfs.sh", RECIPES / "vm-customize.sh")
# What the machine is told at boot for a memory controller of either version.
HIERARCHIES = {
    "unified": "systemd.unified_cgroup_hierarchy=1",
    "legacy": "systemd.unified_cgroup_hierarchy=0 systemd.legacy_systemd_cgroup_controller=1 swapaccount=1",
}
# The default mitigations make emulation half as slow again.
KERNEL_ARGUMENTS = "root=/dev/vda rw console=ttyS0 quiet mitigations=off"
ACCELERATORS = {
    "kvm": ("-accel", "kvm", "-cpu", "host"),
    "tcg": ("-accel", "tcg,thread=multi,tb-size=512", "-cpu", "max"),
}


class Machine(NamedTuple):
    """What a virtual machine is made of: the folder of its image, and what its kernel is told."""

    image: pathlib.Path
    arguments: str


def image_of(suite: str) -> pathlib.Path:
    """The folder of the suite's image, built if the cache does not have it or has an old one."""
    if suite not in SUITE_PACKAGES:
        raise LabError(f"There is no recipe for the suite {suite}; there is one for {', '.join(SUITE_PACKAGES)}.")
    packages = PACKAGES + SUITE_PACKAGES[suite]
    recipe = [each.read_text(encoding="utf-8") for each in HOOKS]
    target = CACHE / f"image-{suite}-{digest(packages, recipe, sources(suite))}"
    if not _is_recent(target):
        say(f"Building an image of {suite}. This takes some minutes and about 1 GB in {CACHE}.")
        with building(target) as made:
            _build_image(suite, packages, made)
            shutil.rmtree(target, ignore_errors=True)
        for old in (*CACHE.glob(f"image-{suite}-*"), *CACHE.glob(f"booted-{suite}-*")):
            if old != target:
                shutil.rmtree(old)
    return target


def _is_recent(image: pathlib.Path) -> bool:
    """Whether the image is there, and not so old that its kernel's headers may be nowhere to be had."""
    if not image.is_dir():
        return False
    days = (time.time() - image.stat().st_mtime) / 86400
    if days > IMAGE_DAYS:
        say(f"{image.name} is {days:.0f} days old, and the mirror may have newer kernel headers only.")
    return days <= IMAGE_DAYS


def _build_image(suite: str, packages: tuple[str, ...], made: pathlib.Path) -> None:
    root = made.parent / "root"
    run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "lab", "-f", str(made / "id_ed25519"))
    initramfs, customize, out = (shlex.quote(str(each)) for each in (*HOOKS, made))
    hooks = (f'--extract-hook=sh {initramfs} "$1"', f'--customize-hook=sh {customize} "$1" {out}')
    bootstrap(suite, str(root), packages, *hooks)
    # mke2fs fills the file system itself, so that neither a loop device nor a mount is needed.
    raw = made.parent / "raw"
    with open(raw, "wb") as disk:
        disk.truncate(8 << 30)
    run("mke2fs", "-q", "-t", "ext4", "-d", str(root), str(raw))
    run("qemu-img", "convert", "-O", "qcow2", str(raw), str(made / "disk.qcow2"))
    shutil.rmtree(root)


def snapshot_of(machine: Machine, suite: str) -> pathlib.Path:
    """The folder with the snapshot of the booted machine, booted first if the cache does not have it."""
    version = run("qemu-system-x86_64", "--version").splitlines()[0]
    target = (
        CACHE / f"booted-{suite}-{digest(machine.image.name, machine.arguments, version, MEMORY_MIB, ACCELERATORS)}"
    )
    if not target.is_dir():
        with building(target) as made:
            _build_snapshot(machine, made)
    return target


def accelerators() -> list[str]:
    """The accelerators to try in turn. LAB_ACCEL=tcg spares a host with a broken device the attempt."""
    asked = os.environ.get("LAB_ACCEL")
    if asked:
        return [asked]
    return ["kvm", "tcg"] if os.access("/dev/kvm", os.R_OK | os.W_OK) else ["tcg"]


def _build_snapshot(machine: Machine, made: pathlib.Path) -> None:
    """Boots the machine with the first accelerator that gets it so far that somebody can log in, and keeps its state.

    Nothing but a boot proves an accelerator: the device may be there, open, and lead nowhere.
    """
    for name in accelerators():
        say(f"Booting {machine.image.name} with {name}.")
        work = CACHE / f"run-booting-{os.getpid()}"
        work.mkdir()
        try:
            _overlay(machine.image, work)
            start(machine, work, name)
            wait(machine, work, KVM_BOOT_SECONDS if name == "kvm" else BOOT_SECONDS)
            ssh(work, SETTLE, BOOT_SECONDS)
            _save(work)
        except LabError as error:
            say(f"{name}: {error}")
            continue
        else:
            (work / "disk.qcow2").rename(made / "disk.qcow2")
            (made / "accelerator").write_text(name, encoding="utf-8")
            return
        finally:
            destroy(work)
    raise LabError(f"{machine.image.name} booted with none of {', '.join(accelerators())}; the reasons are above.")


def _overlay(image: pathlib.Path, work: pathlib.Path) -> None:
    # A relative name, so that the checkout may be moved. The overlay has to stay in a folder beside the image's.
    base = f"../{image.name}/disk.qcow2"
    run("qemu-img", "create", "-q", "-f", "qcow2", "-b", base, "-F", "qcow2", str(work / "disk.qcow2"))


def _save(work: pathlib.Path) -> None:
    """Keeps the state of a running machine in its disk and ends the machine."""
    with monitor(work) as ask:
        failure = ask("human-monitor-command", **{"command-line": "savevm booted"})
    if failure:
        raise LabError(f"The state of the booted machine could not be saved: {failure}")
    stop(work)


def create(name: str, suite: str, hierarchy: str) -> None:
    """A machine that runs, its clock set, and `ssh -F run-NAME/ssh_config NAME` as the way to it."""
    require(NEEDS)
    arguments = f"{KERNEL_ARGUMENTS} {HIERARCHIES[hierarchy]}"
    work = CACHE / f"run-{name}"
    if pid_of(work):
        return
    destroy(work)
    with alone():
        machine = Machine(image_of(suite), arguments)
        snapshot = snapshot_of(machine, suite)
    try:
        _restore(machine, snapshot, work)
    except LabError as error:
        # What the snapshot was made with may be gone from this host: another emulator, another processor.
        say(f"{snapshot.name} could not be restored, so it is made anew: {error}")
        destroy(work)
        with alone():
            shutil.rmtree(snapshot, ignore_errors=True)
            snapshot = snapshot_of(machine, suite)
        _restore(machine, snapshot, work)


def _restore(machine: Machine, snapshot: pathlib.Path, work: pathlib.Path) -> None:
    work.mkdir()
    run("cp", "--reflink=auto", "--sparse=always", str(snapshot / "disk.qcow2"), str(work / "disk.qcow2"))
    start(machine, work, (snapshot / "accelerator").read_text(encoding="utf-8"), "-loadvm", "booted")
    wait(machine, work, RESTORE_SECONDS)
    # The machine wakes up in the second in which it was saved.
    ssh(work, f"date --set=@{time.time():.3f}")


def start(machine: Machine, work: pathlib.Path, accelerator: str, *more: str) -> None:
    """Starts the emulator in the background, its files in `work`."""
    port = free_port()
    disk = str(work / "disk.qcow2").replace(",", ",,")
    command = (
        *("qemu-system-x86_64", *ACCELERATORS[accelerator], "-machine", "q35", "-smp", "2", "-m", str(MEMORY_MIB)),
        *("-nodefaults", "-display", "none", "-append", machine.arguments),
        *("-kernel", str(machine.image / "vmlinuz"), "-initrd", str(machine.image / "initrd.img")),
        *("-drive", f"file={disk},if=virtio,format=qcow2,cache=unsafe,discard=unmap"),
        *("-netdev", f"user,id=n0,hostfwd=tcp:127.0.0.1:{port}-:22", "-device", "virtio-net-pci,netdev=n0"),
        *("-device", "virtio-rng-pci", "-serial", "file:console", "-pidfile", "pid", "-daemonize"),
        # Relative: the name of a socket may have no more than 107 bytes.
        *("-qmp", "unix:qmp,server=on,wait=off"),
    )
    config = {
        "HostName": "127.0.0.1",
        "HostKeyAlias": "lab",
        "Port": port,
        "User": "root",
        "IdentityFile": f'"{machine.image / "id_ed25519"}"',
        "IdentitiesOnly": "yes",
        "UserKnownHostsFile": f'"{machine.image / "known_hosts"}"',
        "LogLevel": "ERROR",
    }
    lines = ["Host *", *(f"  {key} {value}" for key, value in config.items())]
    (work / "ssh_config").write_text("\n".join(lines) + "\n", encoding="utf-8")
    run(*command, *more, cwd=work)


def free_port() -> int:
    """A TCP port of the loopback interface that nobody uses now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait(machine: Machine, work: pathlib.Path, seconds: float) -> None:
    """Waits until somebody can log in; LabError with the end of the console if that does not come."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if not pid_of(work):
            raise LabError(f"the emulator of {machine.image.name} ended before anybody could log in")
        with contextlib.suppress(LabError):
            ssh(work, "true")
            return
        time.sleep(0.5)
    console = (work / "console").read_text(encoding="utf-8", errors="replace").splitlines()[-15:]
    raise LabError("\n".join([f"nobody could log in to {machine.image.name} within {seconds} s", *console]))


def ssh(work: pathlib.Path, command: str, seconds: float = 60) -> str:
    """What a command prints that root runs in the machine."""
    return run("ssh", "-F", str(work / "ssh_config"), "-o", "ConnectTimeout=10", "lab", command, seconds=seconds)


def pid_of(work: pathlib.Path) -> int:
    """The process of the machine, or 0. A process that does not work on the machine's disk is not the machine's."""
    try:
        pid = int((work / "pid").read_text(encoding="ascii"))
        command = pathlib.Path(f"/proc/{pid}/cmdline").read_text(encoding="utf-8", errors="replace")
    except (OSError, ValueError):
        return 0
    disk = str(work / "disk.qcow2").replace(",", ",,")
    return pid if f"file={disk}," in command and "qemu-system" in command else 0


@contextlib.contextmanager
def monitor(work: pathlib.Path) -> Iterator[Callable[..., object]]:
    """Opens the emulator's own control socket: ask(command, **arguments) returns what the command returns."""
    folder = os.open(work, os.O_PATH)
    try:
        with socket.socket(socket.AF_UNIX) as line:
            line.settimeout(300)
            line.connect(f"/proc/self/fd/{folder}/qmp")
            with line.makefile("rw", encoding="utf-8") as talk:

                def ask(command: str, **arguments: object) -> object:
                    talk.write(json.dumps({"execute": command, "arguments": arguments}) + "\n")
                    talk.flush()
                    for answer in map(json.loads, talk):
                        if "error" in answer:
                            raise LabError(f"{command}: {answer['error']['desc']}")
                        if "return" in answer:
                            return answer["return"]
                    raise LabError(f"{command}: the emulator ended")

                talk.readline()
                ask("qmp_capabilities")
                yield ask
    finally:
        os.close(folder)


def stop(work: pathlib.Path) -> None:
    """Ends the machine's own emulator and no other process. What the machine had not written is lost."""
    pid = pid_of(work)
    if pid:
        with contextlib.suppress(OSError, LabError), monitor(work) as ask:
            ask("quit")
    for name in (0, signal.SIGTERM, signal.SIGKILL):
        for _attempt in range(50):
            if not pid_of(work):
                return
            time.sleep(0.2)
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, name)


def destroy(work: pathlib.Path) -> None:
    """Ends what create() started and removes it."""
    stop(work)
    shutil.rmtree(work, ignore_errors=True)

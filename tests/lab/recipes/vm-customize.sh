# Copyright (c) 2026 oom.forensics contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# shellcheck shell=sh

# After the packages are configured: network, log-in, a persistent journal, and nothing that starts by itself.
#   vm-customize.sh ROOT OUT    OUT has id_ed25519.pub; it gets vmlinuz, initrd.img, known_hosts, packages.txt
set -eu
root=$1 out=$2

echo oom-lab >"$root/etc/hostname"
printf '127.0.0.1 localhost oom-lab\n' >"$root/etc/hosts"
echo '/dev/vda / ext4 defaults 0 1' >"$root/etc/fstab"
mkdir -p "$root/var/log/journal" "$root/etc/systemd/network"
printf '[Match]\nName=e*\n[Network]\nDHCP=ipv4\n' >"$root/etc/systemd/network/80-dhcp.network"
# The name server of the emulator's own network, not the one of the machine that builds this.
rm -f "$root/etc/resolv.conf"
echo 'nameserver 10.0.2.3' >"$root/etc/resolv.conf"
# Empty, so that each boot makes one. With "uninitialized" the first boot would enable every unit's preset again.
: >"$root/etc/machine-id"

install -d -m 700 "$root/root/.ssh"
install -m 600 "$out/id_ed25519.pub" "$root/root/.ssh/authorized_keys"
awk '{ print "lab", $1, $2 }' "$root/etc/ssh/ssh_host_ed25519_key.pub" >"$out/known_hosts"
# A user without root's rights who may read the journal.
chroot "$root" useradd --create-home --shell /bin/bash --groups systemd-journal reader
install -d -m 700 "$root/home/reader/.ssh"
install -m 600 "$out/id_ed25519.pub" "$root/home/reader/.ssh/authorized_keys"
chroot "$root" chown -R reader: /home/reader/.ssh

chroot "$root" systemctl -q enable systemd-networkd ssh docker
for unit in podman podman-auto-update.timer podman-restart podman-clean-transient apt-daily.timer apt-daily-upgrade.timer \
    dpkg-db-backup.timer e2scrub_all.timer e2scrub_reap fstrim.timer man-db.timer systemd-networkd-wait-online; do
    chroot "$root" systemctl -q disable "$unit" 2>/dev/null || :
done

chroot "$root" dpkg-query --show >"$out/packages.txt"
mv "$root"/boot/vmlinuz-* "$out/vmlinuz"
mv "$root"/boot/initrd.img-* "$out/initrd.img"

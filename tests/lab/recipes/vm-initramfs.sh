# Copyright (c) 2026 oom.forensics contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# shellcheck shell=sh

# Before the packages are configured: an initramfs of what q35 with virtio needs. One for most machines is 40 MB, and
# takes an emulated one many seconds to unpack.
set -eu
folder=$1/etc/initramfs-tools
mkdir -p "$folder/conf.d"
printf 'MODULES=list\nCOMPRESS=zstd\n' >"$folder/conf.d/lab"
printf '%s\n' virtio_pci virtio_blk virtio_net virtio_rng ext4 >"$folder/modules"

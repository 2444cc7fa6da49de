#!/bin/sh
# Debian with systemd and nothing else on ext4, and its own initrd, with the programs and units that are in /out/units.
set -eu
if [ ! -e /out/units.tar ]; then
  mmdebstrap --variant=minbase --aptopt='Apt::Install-Recommends "false"' --format=tar \
    --include=systemd,systemd-sysv,udev,dbus,linux-image-cloud-amd64,initramfs-tools,e2fsprogs,kmod \
    trixie /out/units.tar.new "$PEER_MIRROR"
  mv /out/units.tar.new /out/units.tar
fi
root=/tmp/units
rm -rf "$root" && mkdir "$root"
tar -xf /out/units.tar -C "$root"
cp -r /out/units/. "$root/"
printf 'LABEL=peer / ext4 defaults 0 1\n' > "$root/etc/fstab"
echo peer > "$root/etc/hostname"
cp "$root"/boot/vmlinuz-* /out/units.vmlinuz
cp "$root"/boot/initrd.img-* /out/units.initrd
rm -f /out/units.ext4
truncate -s 2G /out/units.ext4
mkfs.ext4 -q -L peer -d "$root" /out/units.ext4
rm -rf "$root"

#!/bin/sh
# Debian with systemd on ext4, and its own initrd: the same services, set up by their packages.
set -eu
cat > /tmp/customize.sh <<'X'
set -eu
root=$1
printf '[Match]\nName=en* eth*\n[Network]\nDHCP=yes\n' > "$root/etc/systemd/network/80-dhcp.network"
chroot "$root" systemctl enable systemd-networkd
printf '[mariadbd]\nbind-address = *\n' > "$root/etc/mysql/mariadb.conf.d/99-peer.cnf"
sed -i 's#^SLAPD_SERVICES=.*#SLAPD_SERVICES="ldap:/// ldapi:///"#' "$root/etc/default/slapd"
printf 'LABEL=peer / ext4 defaults 0 1\n' > "$root/etc/fstab"
echo peer > "$root/etc/hostname"
cp "$root"/boot/vmlinuz-* /out/debian.vmlinuz
cp "$root"/boot/initrd.img-* /out/debian.initrd
X
mmdebstrap --variant=minbase --aptopt='Apt::Install-Recommends "false"' --format=directory \
  --include=systemd,systemd-sysv,udev,dbus,linux-image-cloud-amd64,initramfs-tools,caddy,mariadb-server,slapd,ldap-utils,e2fsprogs,nftables,iproute2 \
  --customize-hook='sh /tmp/customize.sh "$1"' trixie /tmp/debian "$PEER_MIRROR"
rm -f /out/debian.ext4
truncate -s 4G /out/debian.ext4
mkfs.ext4 -q -L peer -d /tmp/debian /out/debian.ext4

#!/bin/sh
# mkosi: a disk image with EROFS and verity of the packages in $PEER_PACKAGES, packages cached by an earlier run.
set -eu
# The first run fetches; the ones that are measured may not even look at the network.
warm=auto
[ ! -e /packages/warm ] || warm=always
rm -rf /tmp/mkosi && mkdir -p /tmp/mkosi/mkosi.repart /tmp/mkosi/mkosi.sandbox/etc/apt/sources.list.d && cd /tmp/mkosi
cat > mkosi.conf <<X
[Distribution]
Distribution=debian
Release=trixie
Mirror=$PEER_MIRROR

[Output]
Format=disk
Output=mkosi
OutputDirectory=/out

[Build]
PackageCacheDirectory=/packages
CacheOnly=$warm
WorkspaceDirectory=/out/workspace
WithNetwork=yes

[Content]
Bootable=yes
Bootloader=systemd-boot
Packages=$(echo systemd systemd-boot systemd-sysv udev dbus $PEER_PACKAGES | tr ' ' ,)
X
sources() { printf 'Types: deb\nURIs: %s\nSuites: %s\nComponents: main\nSigned-By: /usr/share/keyrings/debian-archive-keyring.pgp\n\n' "$1" "$2"; }
{ sources "$PEER_MIRROR" "trixie trixie-updates"; sources "$PEER_SECURITY" trixie-security; } > mkosi.sandbox/etc/apt/sources.list.d/mkosi.sources
cat > mkosi.repart/00-esp.conf <<X
[Partition]
Type=esp
Format=vfat
CopyFiles=/boot:/
CopyFiles=/efi:/
SizeMinBytes=512M
SizeMaxBytes=512M
X
cat > mkosi.repart/10-root.conf <<X
[Partition]
Type=root
Format=erofs
CopyFiles=/
Verity=data
VerityMatchKey=root
Minimize=best
X
cat > mkosi.repart/20-verity.conf <<X
[Partition]
Type=root-verity
Verity=hash
VerityMatchKey=root
Minimize=best
X
mkdir -p /out/workspace
mkosi --force build
touch /packages/warm

#!/bin/sh
# Runs a peer's script with the peers' tree as `/`: an overlay, so that the tree itself stays as it was unpacked.
# Usage: enter.sh TREE FOLDER SCRIPTS SCRIPT (as root, in a mount namespace of its own)
set -eu
tree=$1 folder=$2 scripts=$3 script=$4
root=$folder/root
mount -t overlay overlay -o "lowerdir=$tree,upperdir=$folder/upper,workdir=$folder/work" "$root"
mkdir -p "$root/proc" "$root/sys" "$root/dev" "$root/tmp" "$root/out" "$root/packages" "$root/scripts" "$root/var/tmp" "$root/old" "$root/run"
for part in proc sys dev; do mount --rbind "/$part" "$root/$part"; done
mount -t tmpfs -o size=90%,mode=1777 tmp "$root/tmp"
mount --bind "$folder/out" "$root/out"
mount --bind "$folder/packages" "$root/packages"
mount --bind "$scripts" "$root/scripts"
cp /etc/resolv.conf /etc/hosts "$root/etc/"
cd "$root"
pivot_root . old
umount -l /old
exec env -i PATH=/usr/sbin:/usr/bin HOME=/root TMPDIR=/tmp PEER_MIRROR="$PEER_MIRROR" PEER_SECURITY="$PEER_SECURITY" \
  PEER_PACKAGES="$PEER_PACKAGES" /bin/sh "/scripts/$script"

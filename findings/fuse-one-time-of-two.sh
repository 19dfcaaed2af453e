#!/usr/bin/env bash
# `touch -m` and `touch -a` set one time of a file and leave the other one as it is (utimensat with UTIME_OMIT). One would
# guess that a FUSE file system does that or fails. bindfs 1.14.7 sets neither and reports success. sshfs 3.7.3 sets the
# one that was to stay to the time of now: reading times and writing back the time of access changes the time of
# modification. A program that keeps something in either time has to set both in each call.
#
# Source: Debian 12's packages bindfs 1.14.7-1 and sshfs 3.7.3-1.2~deb12u1 with libfuse 3.14.0. Needs root, /dev/fuse and
# apt-get; exits 1 where the behaviour is another one.
set -euo pipefail

scratch=$(mktemp --directory)
end() {
    for mount in "$scratch"/*-mount; do ! mountpoint --quiet "$mount" || umount --lazy "$mount"; done
    rm -rf "$scratch"
}
trap end EXIT
cd "$scratch"
apt-get download --quiet --quiet bindfs=1.14.7-1 sshfs=3.7.3-1.2~deb12u1 libfuse3-3 openssh-sftp-server libglib2.0-0 2>/dev/null
for package in ./*.deb; do dpkg-deb --extract "$package" root; done
export PATH=$scratch/root/usr/bin:$PATH LD_LIBRARY_PATH=$scratch/root/lib/x86_64-linux-gnu:$scratch/root/usr/lib/x86_64-linux-gnu
bindfs --version
sshfs --version | head -1

mkdir bindfs bindfs-mount sshfs sshfs-mount plain-mount
bindfs bindfs bindfs-mount
printf '#!/bin/sh\nexec %s/root/usr/lib/openssh/sftp-server\n' "$scratch" >ssh
chmod +x ssh
sshfs -o "ssh_command=$scratch/ssh" "host:$scratch/sshfs" sshfs-mount

old='2020-01-01 00:00:00 UTC'
new='2021-01-01 00:00:00 UTC'
# What becomes of both times where one is set: old, new or now.
becomes() {
    touch --date "$old" "$1/file"
    touch "$2" --date "$new" "$1/file"
    local times=()
    for seconds in $(stat --format '%X %Y' "$1/file"); do
        case $seconds in
        "$(date --date "$old" +%s)") times+=(old) ;;
        "$(date --date "$new" +%s)") times+=(new) ;;
        *) times+=(now) ;;
        esac
    done
    echo "accessed ${times[0]}, modified ${times[1]}"
}
outcome=0
expect() {
    local found
    found=$(becomes "$1-mount" "$2")
    echo "$1: touch $2: $found"
    [[ $found == "$3" ]] || outcome=1
}
expect plain -m 'accessed old, modified new'
expect plain -a 'accessed new, modified old'
expect bindfs -m 'accessed old, modified old'
expect bindfs -a 'accessed old, modified old'
expect sshfs -m 'accessed now, modified new'
expect sshfs -a 'accessed new, modified now'
exit "$outcome"

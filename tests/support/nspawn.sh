#!/bin/bash
# nspawn.sh ROOT NAME [OPTION...]: boots ROOT as a throw-away container in a mount namespace of its own, says `leader PID`
# once its init runs, and ends when that does. SIGTERM powers it off. Nothing is left behind, and ROOT is not changed.
#
# Works on hosts without systemd: nspawn then finds neither a bus nor a /run on a tmpfs nor, with cgroups of version 1, the
# one hierarchy that it needs; so all three are arranged within the namespace. The network is the host's, so that servers
# of the tests can be reached.
set -euo pipefail
root=$1 name=$2
shift 2

if [ -z "${IN_NAMESPACE:-}" ]; then
  IN_NAMESPACE=1 exec unshare --mount --propagation private "$BASH" "$0" "$root" "$name" "$@"
fi

mount -t tmpfs tmpfs /run
mkdir -p /run/systemd
mount -t cgroup2 cgroup2 /sys/fs/cgroup
group=/sys/fs/cgroup/$name
mkdir "$group"

nspawn=
power_off() { [ -z "$nspawn" ] || kill -TERM "$nspawn" 2>/dev/null || true; }
trap power_off TERM INT

(
  echo "$BASHPID" >"$group/cgroup.procs"
  export SYSTEMD_NSPAWN_UNIFIED_HIERARCHY=1
  exec systemd-nspawn --quiet -D "$root" --boot --volatile=overlay -M "$name" --console=pipe --register=no --keep-unit \
    --kill-signal=SIGRTMIN+3 "$@" </dev/null
) >&2 &
nspawn=$!

# nspawn's first child only prepares the root; the one in a process namespace of its own becomes init.
here=$(readlink /proc/self/ns/pid)
leader=
while [ -z "$leader" ] && kill -0 "$nspawn" 2>/dev/null; do
  for child in $(pgrep -P "$nspawn" || true); do
    there=$(readlink "/proc/$child/ns/pid" || true)
    [ -z "$there" ] || [ "$there" = "$here" ] || leader=$child
  done
  [ -n "$leader" ] || sleep 0.05
done
[ -z "$leader" ] || echo "leader $leader"
exec 1>&2

# A signal interrupts the wait; what is waited for goes on until it has powered off.
while kill -0 "$nspawn" 2>/dev/null; do wait "$nspawn" || true; done
find "$group" -depth -type d -exec rmdir {} + 2>/dev/null || true

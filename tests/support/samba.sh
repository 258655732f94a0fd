#!/bin/sh
# Runs Samba's domain controller in a network and process space of its own, where it can have the ports that it insists on.
# It is reached by the Unix sockets `ldaps` and `ldap` in the folder. Everything ends with the process that started it.
#   unshare --net --pid --fork --kill-child sh samba.sh FOLDER
set -eu
ip link set lo up
socat "UNIX-LISTEN:$1/ldaps,fork" TCP:127.0.0.1:636 &
socat "UNIX-LISTEN:$1/ldap,fork" TCP:127.0.0.1:389 &
exec samba --interactive --debug-stdout --configfile "$1/dc/etc/smb.conf" --debuglevel="${2:-1}"

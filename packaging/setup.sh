#!/bin/bash
# Installs what the named jobs need, as root or by sudo. What is there already is left alone, so it is safe to repeat, and quick.
#
#   packaging/setup.sh build [demo] [postgres] [test] [power] [lint] [package] [fuzz]
set -euo pipefail
cd "$(dirname "$0")/.."

say() { printf 'setup: %s\n' "$*" >&2; }
die() { say "$*"; exit 1; }

# The tools that cargo installs are kept out of the user's own folder.
tools=$PWD/.cache/tools
cargo_deny=0.20.2
cargo_deb=3.8.0
cargo_fuzz=0.13.2

packages=()
crates=()
for job in "$@"; do
  case $job in
    # aws-lc-sys compiles C; everything else is Rust.
    build) packages+=(gcc libc6-dev libssl-dev make pkg-config ca-certificates) ;;
    demo) packages+=(apache2-utils curl) ;;
    postgres) packages+=(postgresql postgresql-client) ;;
    # A real init for the tests of the units; servers and tools for the others (the plugins of MariaDB are in the package of its service).
    test) packages+=(389-ds-base acl age apache2-utils cracklib-runtime curl default-jre-headless dovecot-core dpkg-dev e2fsprogs faketime iproute2 jq krb5-admin-server
                     krb5-kdc krb5-user ldap-utils libnbd-bin libnss3-tools libpwquality-tools libtss2-esys-3.0.2-0 libtss2-mu0 libtss2-rc0
                     libtss2-tcti-swtpm0 mariadb-client-core mariadb-server mmdebstrap
                     mosquitto mosquitto-clients openssh-client openssh-server openssl pamtester passwd postgresql
                     postgresql-client procps python3-venv python3-yaml rabbitmq-server redis-server samba samba-ad-dc
                     samba-ad-provision samba-dsdb-modules samba-vfs-modules slapd snmp snmpd socat strace sudo swtpm systemd
                     systemd-container util-linux winbind) crates+=("cargo-deb@$cargo_deb") ;;
    power) packages+=(btrfs-progs xfsprogs) ;;
    lint) crates+=("cargo-deny@$cargo_deny") ;;
    package) packages+=(dpkg-dev) crates+=("cargo-deb@$cargo_deb") ;;
    # The fuzzer is in C++.
    fuzz) packages+=(g++) crates+=("cargo-fuzz@$cargo_fuzz") ;;
    *) die "no such job: $job" ;;
  esac
done

installed() { dpkg-query -W -f='${db:Status-Status}' "$1" 2>/dev/null | grep -qx installed; }

as_root() {
  if [ "$(id -u)" = 0 ]; then "$@"; else sudo -n "$@"; fi
}

apt_get() {
  # Waits when another apt runs; asks nothing; says what went wrong and no more.
  as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=300 -o Acquire::Retries=3 "$@" </dev/null >/dev/null
}

apt_install() {
  # A fresh machine has no package lists, an old one stale ones: then they are read first.
  apt_get install -y --no-install-recommends "$@" || { apt_get update && apt_get install -y --no-install-recommends "$@"; }
}

# Debian's PostgreSQL makes and starts a cluster when it is installed. Nobody asked for one here: the demonstration and
# the tests start servers of their own. The setting is put back afterwards.
apt_install_postgresql() {
  local conf=/etc/postgresql-common/createcluster.conf done=yes
  apt_install postgresql-common
  as_root cp -p "$conf" "$conf.keywheel"
  echo 'create_main_cluster = false' | as_root tee -a "$conf" >/dev/null
  apt_install "$@" || done=no
  as_root mv -f "$conf.keywheel" "$conf"
  [ $done = yes ]
}

# Servers that are installed for tests are not started: the tests start their own. Debian asks this file (invoke-rc.d(8)); one that is
# there already has its reasons.
policy=/usr/sbin/policy-rc.d
start_nothing() {
  [ ! -e $policy ] || return 0
  printf '#!/bin/sh\nexit 101\n' | as_root tee $policy >/dev/null
  as_root chmod 755 $policy
  trap 'as_root rm -f $policy' EXIT
}

missing=() missing_postgresql=()
for package in $(printf '%s\n' ${packages[@]+"${packages[@]}"} | sort -u); do
  installed "$package" && continue
  case $package in
    postgresql*)
      # Any set of server programs will do, wherever it came from.
      if compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null && command -v psql >/dev/null; then continue; fi
      missing_postgresql+=("$package") ;;
    *) missing+=("$package") ;;
  esac
done

if [ $((${#missing[@]} + ${#missing_postgresql[@]})) -gt 0 ]; then
  wanted="${missing[*]-} ${missing_postgresql[*]-}"
  command -v apt-get >/dev/null || die "please install: $wanted"
  [ "$(id -u)" = 0 ] || sudo -n true 2>/dev/null || sudo -v ||
    die "neither root nor sudo; please have these installed: $wanted"
  say "installing $wanted"
  start_nothing
  [ ${#missing[@]} = 0 ] || apt_install "${missing[@]}"
  [ ${#missing_postgresql[@]} = 0 ] || apt_install_postgresql "${missing_postgresql[@]}"
fi

# Services in Python, and releases of servers that this Debian has not.
case " $* " in *" test "*) packaging/test-services.sh; packaging/test-newer.sh ;; esac

command -v cargo >/dev/null || die "there is no cargo; install a Rust toolchain (https://rustup.rs)"

for crate in $(printf '%s\n' ${crates[@]+"${crates[@]}"} | sort -u); do
  name=${crate%@*}
  if "$tools/bin/$name" --version 2>/dev/null | grep -qF "${crate#*@}"; then continue; fi
  say "installing $crate (some minutes, once)"
  # Without optimisation it is built in half the time, and it has little to do here.
  CARGO_PROFILE_DEV_DEBUG=0 CARGO_TARGET_DIR=$tools/build \
    cargo install --quiet --locked --debug --root "$tools" "$crate" </dev/null >&2
  rm -rf "$tools/build"
done

#!/bin/bash
# Install a rootless Apptainer from Debian's packages under a prefix; the system's own libraries stay as they are.
#
#   PREFIX=~/.local/share/aworld/apptainer MIRROR=<a Debian mirror> bash scripts/apptainer.sh
#
# Apptainer is in Debian's unstable suite only and wants a newer libc than a stable Debian has, so its two programs are
# pointed at a private copy of one. MIRROR: that of this machine's apt, unless given. Root (or sudo) is used only to
# install the Debian packages that Apptainer calls, and to let users mount images.
set -euo pipefail
PREFIX=${PREFIX:-${XDG_DATA_HOME:-$HOME/.local/share}/aworld/apptainer}
LIBC_SUITE=trixie
NEEDS=(squashfs-tools squashfuse fuse-overlayfs fakeroot uidmap debootstrap libseccomp2 patchelf ca-certificates
  debian-archive-keyring)
# What Apptainer gives root in a container, less CAP_SYS_RESOURCE and others that root of a container or a VM may lack.
ROOT_CAPABILITIES=CAP_CHOWN,CAP_DAC_OVERRIDE,CAP_DAC_READ_SEARCH,CAP_FOWNER,CAP_FSETID,CAP_KILL,CAP_SETGID
ROOT_CAPABILITIES+=,CAP_SETUID,CAP_SETPCAP,CAP_LINUX_IMMUTABLE,CAP_NET_BIND_SERVICE,CAP_NET_BROADCAST
ROOT_CAPABILITIES+=,CAP_NET_ADMIN,CAP_NET_RAW,CAP_IPC_LOCK,CAP_IPC_OWNER,CAP_SYS_RAWIO,CAP_SYS_CHROOT
ROOT_CAPABILITIES+=,CAP_SYS_PTRACE,CAP_SYS_ADMIN,CAP_SYS_NICE,CAP_MKNOD,CAP_LEASE,CAP_AUDIT_WRITE,CAP_SETFCAP

say() { printf '%s\n' "$1"; }
fail() { printf 'error: %s\n' "$1" >&2; exit 2; }
as_root() {
  if [ "$(id -u)" = 0 ]; then "$@"; else sudo -n "$@"; fi
}

packages() {
  local missing
  missing=$(for name in "${NEEDS[@]}"; do
    dpkg-query -W -f '${Status}' "$name" 2>/dev/null | grep -q ' installed$' || printf '%s ' "$name"
  done)
  [ -n "$missing" ] || return 0
  say "installing ${missing}…"
  # shellcheck disable=SC2086 # a list of words
  { as_root apt-get update && as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends $missing; } \
    >>"$log" 2>&1 || fail "Debian packages are missing and cannot be installed ($log); as root: apt-get install $missing"
}

debian_mirror() { # the first archive in the machine's apt sources, of either format
  cat /etc/apt/sources.list /etc/apt/sources.list.d/*.sources /etc/apt/sources.list.d/*.list 2>/dev/null |
    sed -nE 's/^URIs: *([^ ]+).*/\1/p; s/^deb +(\[[^]]*\] +)?([^ ]+) .*/\2/p' | grep -E '/debian/?$' | head -n 1
}

download() { # apptainer and libc6 as .deb files, with a configuration of apt's that touches nothing of the system's
  local mirror
  mirror=${MIRROR:-$(debian_mirror || true)}
  [ -n "$mirror" ] || fail "no Debian mirror in this machine's apt sources; give one: MIRROR=… bash scripts/apptainer.sh"
  mkdir -p "$work"/{lists/partial,archives/partial,parts,debs}
  for suite in sid "$LIBC_SUITE"; do
    say "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror $suite main"
  done >"$work/sources.list"
  cat >"$work/apt.conf" <<CONF
Dir::State "$work"; Dir::State::status "/var/lib/dpkg/status"; Dir::Cache "$work";
Dir::Etc::sourcelist "$work/sources.list"; Dir::Etc::sourceparts "$work/parts"; Dir::Etc::preferencesparts "$work/parts";
APT::Sandbox::User "";
CONF
  (
    cd "$work/debs"
    export APT_CONFIG=$work/apt.conf
    apt-get update && apt-get download apptainer/sid "libc6/$LIBC_SUITE"
  ) >>"$log" 2>&1 || fail "apptainer could not be downloaded from $mirror; see $log"
}

unpack() {
  local programs=(usr/bin/apptainer usr/lib/x86_64-linux-gnu/apptainer/bin/starter) folder
  dpkg-deb -x "$work"/debs/apptainer_*.deb "$PREFIX"
  dpkg-deb -x "$work"/debs/libc6_*.deb "$work/libc"
  mkdir -p "$PREFIX/libc"
  cp -a "$work"/libc/usr/lib/x86_64-linux-gnu/*.so* "$PREFIX/libc/"
  for program in "${programs[@]}"; do
    patchelf --set-interpreter "$PREFIX/libc/ld-linux-x86-64.so.2" --force-rpath --set-rpath "$PREFIX/libc" \
      "$PREFIX/$program"
  done
  for folder in etc var; do # where the moved program looks for its configuration
    ln -sfn "../$folder" "$PREFIX/usr/$folder"
    ln -sfn "../../$folder" "$PREFIX/usr/lib/$folder"
  done
  ln -sfn apptainer "$PREFIX/usr/bin/singularity" # the name that spython calls
}

configure() {
  local settings=$PREFIX/etc/apptainer/apptainer.conf
  [ -d /run/systemd/system ] || sed -i 's/^systemd cgroups = .*/systemd cgroups = no/' "$settings"
  if [ "$(id -u)" = 0 ] && ! holds_capability 24; then # a root without CAP_SYS_RESOURCE cannot hand on what it lacks
    sed -i 's/^root default capabilities = .*/root default capabilities = file/' "$settings"
    "$PREFIX/usr/bin/apptainer" capability add --user root "$ROOT_CAPABILITIES" >>"$log" 2>&1
  fi
}

holds_capability() { # whether this process effectively holds capability number $1
  (((0x$(sed -n 's/^CapEff:\s*//p' /proc/self/status) >> $1) & 1))
}

user_mounts() {
  [ "$(stat -c %a /dev/fuse 2>/dev/null)" = 666 ] || as_root chmod 666 /dev/fuse 2>/dev/null ||
    say "warning: /dev/fuse is closed to users, so each start unpacks its image; as root: chmod 666 /dev/fuse"
  if ! grep -qE "^($(id -un)|$(id -u)):" /etc/subuid; then # what a build as a contained root maps its users to
    as_root usermod --add-subuids 300000-365535 --add-subgids 300000-365535 "$(id -un)" 2>/dev/null ||
      say "warning: $(id -un) has no range in /etc/subuid; images with several owners cannot be built"
  fi
}

if found=$(PATH=${PATH//"$PREFIX/usr/bin:"/} command -v apptainer) && version=$("$found" --version 2>/dev/null); then
  say "$version is there: $found"
  exit 0
fi
[ "$(uname -sm)" = "Linux x86_64" ] || fail "this is for Linux x86_64, not $(uname -sm); use your distribution's apptainer"
command -v dpkg-deb apt-get >/dev/null || fail "this needs Debian's apt; install apptainer as your distribution does"
mkdir -p "$PREFIX"
exec 9>"$PREFIX/.lock"
flock 9
log=$PREFIX/install.log
if [ ! -e "$PREFIX/.installed" ]; then
  work=$(mktemp -d)
  trap 'rm -rf "$work"' EXIT
  : >"$log"
  packages
  say "downloading Apptainer …"
  download
  unpack
  configure
  touch "$PREFIX/.installed"
fi
user_mounts
version=$("$PREFIX/usr/bin/apptainer" --version) || fail "$PREFIX/usr/bin/apptainer does not start; see $log"
say "$version: put $PREFIX/usr/bin on PATH"

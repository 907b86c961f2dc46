#!/bin/sh
# Install the Debian packages of the private test cluster (Slurm, munge, MariaDB), strace and bubblewrap, where this user
# may. They are only needed as programs: no service of theirs is started. Where they cannot be installed, the tests that
# need them are skipped, so that is said and is no failure.
set -eu
packages="slurmctld slurmd slurm-client slurmdbd slurm-wlm-basic-plugins slurm-wlm-mysql-plugin"
packages="$packages mariadb-server munge strace bubblewrap"
export PATH="$PATH:/usr/sbin:/sbin"

left_out() {
    printf '%s: the tests that need them are skipped, and "make cluster" needs all but strace and bwrap\n' "$1"
    exit 0
}

for program in slurmctld slurmd sbatch munged slurmdbd mariadbd strace bwrap; do
    command -v "$program" >/dev/null || missing="${missing:-} $program"
done
[ -n "${missing:-}" ] || exit 0

[ -f /etc/debian_version ] || left_out "no$missing here, and only on Debian does this script know the packages"
# shellcheck disable=SC2086 # a list of words
if [ "$(id -u)" = 0 ]; then
    as_root="env"
elif sudo -n true 2>/dev/null; then
    as_root="sudo env"
else
    left_out "no$missing here (an administrator mends that with: apt install --no-install-recommends $packages)"
fi

# invoke-rc.d asks this program whether a service may start
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
    printf '#!/bin/sh\nexit 101\n' | $as_root tee "$policy" >/dev/null
    $as_root chmod 755 "$policy"
    # shellcheck disable=SC2064 # as it is now
    trap "$as_root rm -f $policy" EXIT
fi
echo "installing Slurm, munge and MariaDB …"
log=$(mktemp)
# shellcheck disable=SC2086 # lists of words
{ $as_root apt-get update -q && $as_root DEBIAN_FRONTEND=noninteractive \
    apt-get install -y -q --no-install-recommends $packages; } >"$log" 2>&1 || {
    tail -n 5 "$log"
    left_out "the packages could not be installed, see $log"
}
rm -f "$log"

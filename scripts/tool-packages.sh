#!/bin/sh
# Install, where this user may, the programs of Debian that tools drive and their tests use; what is missing is skipped.
set -eu

# has NAME…: whether one of these programs is here; Debian keeps games off some users' PATH
has() {
    for program in "$@"; do
        PATH="$PATH:/usr/games" command -v "$program" >/dev/null && return 0
    done
    return 1
}

missing=""
has chromium chromium-browser google-chrome || missing="$missing chromium"
has stockfish || missing="$missing stockfish"
has flite || missing="$missing flite"
[ -n "$missing" ] || exit 0

left_out() {
    printf '%s: the tests that need one of them are skipped (an administrator mends that with: apt install%s)\n' "$1" "$missing"
    exit 0
}

[ -f /etc/debian_version ] || left_out "not here:$missing"
if [ "$(id -u)" = 0 ]; then
    as_root="env"
elif sudo -n true 2>/dev/null; then
    as_root="sudo env"
else
    left_out "not here:$missing"
fi
echo "installing$missing …"
log=$(mktemp)
# shellcheck disable=SC2086  # each word of $missing is a package
{ $as_root apt-get update -q && $as_root DEBIAN_FRONTEND=noninteractive \
    timeout 600 apt-get install -y -q --no-install-recommends $missing; } >"$log" 2>&1 || {
    tail -n 3 "$log"
    left_out "could not be installed, see $log:$missing"
}
rm -f "$log"

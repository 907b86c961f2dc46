#!/bin/sh
# Install Debian's Chromium, which the browser tool drives, where this user may; without it its tests are skipped.
set -eu
for program in chromium chromium-browser google-chrome; do
    command -v "$program" >/dev/null && exit 0
done

left_out() {
    printf '%s: the tests of the browser tool are skipped (an administrator mends that with: apt install chromium)\n' "$1"
    exit 0
}

[ -f /etc/debian_version ] || left_out "no Chromium here"
if [ "$(id -u)" = 0 ]; then
    as_root="env"
elif sudo -n true 2>/dev/null; then
    as_root="sudo env"
else
    left_out "no Chromium here"
fi
echo "installing Chromium …"
log=$(mktemp)
{ $as_root apt-get update -q && $as_root DEBIAN_FRONTEND=noninteractive \
    timeout 600 apt-get install -y -q --no-install-recommends chromium; } >"$log" 2>&1 || {
    tail -n 3 "$log"
    left_out "Chromium could not be installed, see $log"
}
rm -f "$log"

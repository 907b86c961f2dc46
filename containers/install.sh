#!/bin/sh
# Install the wheels in /opt/wheels into an image's own Python, whose version is the argument. pip runs from its own wheel.
set -eu
python3 -c 'import sys; assert "%d.%d" % sys.version_info[:2] == sys.argv[1], sys.version' "$1"
python3 "$(echo /opt/wheels/pip-*.whl)/pip" install --no-index --no-deps --no-cache-dir --break-system-packages \
    --root-user-action ignore /opt/wheels/*.whl
ldconfig  # a wheel, such as MPICH's, may bring libraries into /usr/local/lib
rm -rf /opt/wheels /opt/install.sh /var/cache/apt/archives/*.deb /var/lib/apt/lists/* /usr/share/doc/* /usr/share/man/* /usr/share/locale/*

# CUDA from wheels is where programs look for it
cuda=$(python3 -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/nvidia/cu13
[ -d "$cuda" ] && [ ! -e /usr/local/cuda ] || exit 0
ln -s "$cuda" /usr/local/cuda
ln -s lib "$cuda/lib64"

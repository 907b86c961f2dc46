#!/bin/sh
# Install the CPU build of everything into a virtual environment, with the versions that were tested.
#
#   PYTHON=python3.11 VENV=.venv sh scripts/install.sh
set -eu
PYTHON=${PYTHON:-python3.11} VENV=${VENV:-.venv}
log=$VENV/install.log

fail() { printf 'error: %s\n' "$1" >&2; exit 2; }

command -v "$PYTHON" >/dev/null || PYTHON=python3
"$PYTHON" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' 2>/dev/null ||
    fail "Python 3.11 is not here; install it (apt install python3.11 python3.11-venv) or run make PYTHON=/path/to/python3.11"
"$PYTHON" -c 'import ensurepip' 2>/dev/null || fail "this Python cannot make virtual environments; apt install python3.11-venv"
command -v cc >/dev/null || command -v gcc >/dev/null || fail "no C compiler, which vLLM needs; apt install gcc"
[ "$(uname -sm)" = "Linux x86_64" ] || fail "the CPU wheels of torch and vLLM used here are for Linux x86_64, this is $(uname -sm)"

[ -x "$VENV/bin/python" ] || "$PYTHON" -m venv "$VENV"
pip() { "$VENV/bin/python" -m pip --disable-pip-version-check "$@" >>"$log" 2>&1; }
step() { printf '%s\n' "$1"; }

# vLLM's CPU build wants torch's CPU build, which PyPI does not have. Where pip's own sources (a wheel folder, a mirror)
# do not either, uv knows where PyTorch keeps it.
step "installing torch (CPU) …"
pip install "torch==2.13.0+cpu" || {
    pip install "uv>=0.8,<1" &&
        "$VENV/bin/uv" pip install --python "$VENV/bin/python" --torch-backend cpu "torch==2.13.0" >>"$log" 2>&1
} || fail "torch 2.13.0+cpu could not be installed; see $log, or put its wheel in a folder and set PIP_FIND_LINKS to it"

step "installing vLLM (CPU), Megatron-core and the rest: about 3.5 GB, two minutes on a fast line …"
# The lock is complete, so no dependency is looked up. That keeps out torchvision, torchaudio and torchcodec: vLLM asks for
# them, PyPI has only their CUDA builds, and those break the import of transformers.
pip install --no-deps -r requirements-cpu.lock || fail "the packages of requirements-cpu.lock could not be installed; see $log"
pip install --no-deps -e . || fail "aworld could not be installed; see $log"
touch "$VENV/.installed"
step "installed into $VENV"

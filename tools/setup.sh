#!/usr/bin/env bash
# Makes the virtual environment: setup.sh environment | package. Called by the Makefile.
#   environment: Python, system libraries, venv, PyTorch for the CPU, ROS 2 wheels, everything that pyproject.toml lists
#   package:     compiles the messages when they changed, installs specprune_ros
set -euo pipefail
cd "$(dirname "$0")/.."

venv=${VENV:-.venv}
log=build/setup.log

say() { printf '%s\n' "$*"; }
die() { printf '\n%s\n' "$*" >&2; exit 1; }

# step TEXT COMMAND...: runs the command with its output in the log, shows what it is at; fails when it does
step() {
    local text=$1 began=$SECONDS
    shift
    printf '\n== %s\n' "$text" >>"$log"
    "$@" >>"$log" 2>&1 &
    local job=$!
    if [ -t 1 ]; then
        while kill -0 "$job" 2>/dev/null; do
            printf '\r\033[K  %s  %ss  \033[2m%.60s\033[0m' "$text" $((SECONDS - began)) \
                "$(tail -n 1 "$log" | tr -d '\r')"
            sleep 0.5
        done
        printf '\r\033[K'
    fi
    wait "$job" || return 1
    say "  $text  $((SECONDS - began))s"
}

must() { # step, but the end when it fails
    step "$@" || { tail -n 25 "$log" >&2; die "setup: '$1' failed; everything it said is in $log"; }
}

find_python() {
    local name names=(python3 python3.13 python3.12 python3.11 python3.10)
    [ -z "${PYTHON:-}" ] || names=("$PYTHON")
    for name in "${names[@]}"; do
        if "$name" -I -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null; then
            # not a virtual environment, which may be the one to make
            "$name" -I -c 'import sys; print(sys._base_executable)'
            return
        fi
    done
    local looked=${PYTHON:-python3, python3.10 .. python3.13}
    die "setup: no Python 3.10 to 3.13 found (the ROS 2 wheels exist for these); looked for: $looked.
Name one:      make PYTHON=/path/to/python3.12 ...
Or install it: sudo apt-get install python3 python3-venv python3-dev   (or pyenv, uv, conda)"
}

version_of() { "$1" -c 'import sys; print("%d.%d" % sys.version_info[:2])'; }

missing_packages() { # prints the Debian packages this machine lacks
    local python=$1 version
    version=$(version_of "$python")
    "$python" -c 'import ensurepip, venv' 2>/dev/null || echo "python$version-venv"
    "$python" -c 'import os, sysconfig; os.stat(sysconfig.get_path("include") + "/Python.h")' 2>/dev/null ||
        echo "python$version-dev"
    command -v c++ >/dev/null || echo g++
    "$python" tools/check_gl.py >>"$log" 2>&1 || echo libegl1 libegl-mesa0 libgl1-mesa-dri libopengl0
}

install_packages() {
    local sudo=""
    [ "$(id -u)" = 0 ] || sudo=sudo
    if ! command -v apt-get >/dev/null; then
        die "setup: this machine lacks (Debian names): $*
Install them with its package manager, for example on Fedora:
  sudo dnf install python3-devel gcc-c++ mesa-libEGL mesa-dri-drivers libglvnd-opengl"
    elif [ -n "$sudo" ] && ! sudo -n true 2>/dev/null; then
        die "setup: some system packages are missing. Type this, then run make again:
  sudo apt-get update && sudo apt-get install -y --no-install-recommends $*"
    fi
    export DEBIAN_FRONTEND=noninteractive
    must "apt-get update" $sudo apt-get update
    must "apt-get install $*" $sudo apt-get install -y --no-install-recommends "$@"
}

pip() { "$venv/bin/python" -m pip --disable-pip-version-check "$@"; }

# What is installed is locked, one file for each Python: also so that the search for versions that fit together ends.
install() { pip install --no-compile -c "tools/constraints/py$(version_of "$venv/bin/python").txt" "$@"; }

has_gpu() { [ -e /dev/nvidia0 ] || nvidia-smi -L 2>/dev/null | grep -q GPU; }

install_torch() { # the CUDA build is gigabytes of no use where there is no GPU
    pip show -q torch >>"$log" 2>&1 && return
    local kind=${TORCH:-$(has_gpu && echo cuda || echo cpu)}
    case $kind in cpu | cuda) ;; *) die "setup: TORCH=$kind is neither cpu nor cuda" ;; esac
    if [ "$kind" = cpu ]; then
        step "PyTorch for the CPU, from pip's find-links" install --no-index --no-deps torch && return
        step "PyTorch for the CPU" install --retries 1 --index-url https://download.pytorch.org/whl/cpu torch && return
        say "  PyTorch's index of CPU builds cannot be reached; pip's own index has the CUDA build only:"
        say "  about 3 GB to download and 6 GB of disk, and it runs on a CPU as well"
    fi
    must "PyTorch with CUDA" install torch
}

install_requirements() {
    "$venv/bin/python" tools/requirements.py >build/requirements.txt
    install -r build/requirements.txt torch # torch: only what it depends on is still missing
}

environment() {
    local python lacking
    python=$(find_python)
    [ -f "tools/constraints/py$(version_of "$python").txt" ] || die "setup: no tools/constraints for $python; make lock"
    lacking=$(missing_packages "$python" | tr '\n' ' ')
    if [ -n "$lacking" ]; then
        install_packages $lacking
        lacking=$(missing_packages "$python" | tr '\n' ' ')
        [ -z "$lacking" ] || { tail -n 5 "$log" >&2; die "setup: still missing after the installation: $lacking"; }
    fi
    say "  $("$python" --version) at $python"
    if ! pip --version >>"$log" 2>&1 || ! grep -qF "$(absolute "$venv")" "$venv/bin/activate"; then
        must "virtual environment $venv" "$python" -m venv --clear "$venv"
    fi
    must "pip" install --upgrade pip # the one of Python 3.10 walks back through every release of the ROS wheels
    install_torch
    must "ROS 2 wheels and libraries" install_requirements
}

absolute() { case $1 in /*) printf '%s' "$1" ;; *) printf '%s' "$PWD/$1" ;; esac; }

package() {
    must "specprune_ros and its messages" pip install --no-deps --no-build-isolation -e .
}

# From here on nothing of the calling shell that would disturb us.
if [ -z "${_SPECPRUNE_CLEAN:-}" ]; then
    python=$(find_python)
    _SPECPRUNE_CLEAN=1 exec "$python" -I -S specprune_ros/shell_variables.py "$venv" bash tools/setup.sh "$@"
fi

mkdir -p build
: >"$log"
case ${1:-} in
    environment | package) "$1" ;;
    *) die "usage: tools/setup.sh environment | package" ;;
esac

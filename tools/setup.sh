#!/usr/bin/env bash
# Makes the virtual environment: setup.sh environment | package. Called by the Makefile.
#   environment: Python, system libraries, venv, PyTorch for the CPU, ROS 2 wheels, everything that pyproject.toml lists
#   package:     compiles the messages when they changed, installs specprune_ros
set -euo pipefail
cd "$(dirname "$0")/.."

venv=${VENV:-.venv}
log=build/setup.log
torch=2.13.0 # the version the measurements were made with; taken when pip's find-links have it

say() { printf '%s\n' "$*"; }
die() { printf '\n%s\n' "$*" >&2; exit 1; }

# step TEXT COMMAND...: runs the command with its output in the log, shows what it is at, stops everything when it fails
step() {
    local text=$1 began=$SECONDS
    shift
    printf '\n== %s\n' "$text" >>"$log"
    "$@" >>"$log" 2>&1 &
    local job=$!
    if [ -t 1 ]; then
        while kill -0 "$job" 2>/dev/null; do
            printf '\r\033[K  %s  %ss  \033[2m%.60s\033[0m' "$text" $((SECONDS - began)) "$(tail -n 1 "$log" | tr -d '\r')"
            sleep 0.5
        done
        printf '\r\033[K'
    fi
    wait "$job" || { tail -n 25 "$log" >&2; die "setup: '$text' failed; everything it said is in $log"; }
    say "  $text  $((SECONDS - began))s"
}

find_python() {
    local name
    for name in ${PYTHON:-python3 python3.13 python3.12 python3.11 python3.10}; do
        if "$name" -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null; then
            "$name" -c 'import sys; print(sys._base_executable)' # not a virtual environment, which may be the one to make
            return
        fi
    done
    die "setup: no Python 3.10 to 3.13 found (the ROS 2 wheels exist for these); looked for: ${PYTHON:-python3, python3.10 .. python3.13}.
Name one:      make PYTHON=/path/to/python3.12 ...
Or install it: sudo apt-get install python3 python3-venv python3-dev   (or pyenv, uv, conda)"
}

missing_packages() { # prints the Debian packages this machine lacks
    local python=$1 version
    version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
    "$python" -c 'import ensurepip, venv' 2>/dev/null || echo "python$version-venv"
    "$python" -c 'import os, sysconfig; os.stat(sysconfig.get_path("include") + "/Python.h")' 2>/dev/null || echo "python$version-dev"
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
    step "apt-get update" $sudo apt-get update
    step "apt-get install $*" $sudo apt-get install -y --no-install-recommends "$@"
}

pip() { "$venv/bin/python" -m pip --disable-pip-version-check "$@"; }

install_torch() { # without thousands of megabytes of CUDA where that can be had
    pip show -q torch 2>/dev/null && return
    pip install --no-compile --no-index --no-deps "torch==$torch" && return
    pip install --no-compile --retries 1 --index-url https://download.pytorch.org/whl/cpu "torch>=2.5" && return
    pip install --no-compile "torch>=2.5"
}

install_requirements() {
    "$venv/bin/python" tools/requirements.py >build/requirements.txt
    pip install --no-compile -r build/requirements.txt torch # torch: only what it depends on is still missing
}

environment() {
    local python lacking
    python=$(find_python)
    lacking=$(missing_packages "$python" | tr '\n' ' ')
    if [ -n "$lacking" ]; then
        install_packages $lacking
        lacking=$(missing_packages "$python" | tr '\n' ' ')
        [ -z "$lacking" ] || { tail -n 5 "$log" >&2; die "setup: still missing after the installation: $lacking"; }
    fi
    say "  $("$python" --version) at $python"
    pip --version >>"$log" 2>&1 || step "virtual environment $venv" "$python" -m venv --clear "$venv"
    step "PyTorch for the CPU" install_torch
    step "ROS 2 wheels and libraries" install_requirements
}

package() {
    step "specprune_ros and its messages" pip install --no-deps --no-build-isolation -e .
}

mkdir -p build
: >"$log"
case ${1:-} in
    environment | package) "$1" ;;
    *) die "usage: tools/setup.sh environment | package" ;;
esac

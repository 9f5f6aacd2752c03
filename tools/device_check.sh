#!/usr/bin/env bash
# One run on a machine with a GPU, in one command of at most 8 minutes: probes, the tests that CI skips for want of a
# GPU, the 7B benchmark, one profile. No part stops the rest; each writes a file of its own under OUT as it goes, so
# that what is ended early has left what it knew.
#   OUT=DIR        what comes back: at most 6 files, of less than 1 MiB each
#   SCALE=tiny     the same path on a CPU in a minute or two: a rehearsal, what it measures is nothing
#   BUDGET_S=440   seconds for everything
#   BENCH_S=130    seconds after which the benchmark begins no new round
#   PYTHON=python3 a Python with torch, transformers, timm, opencv-python-headless, numpy, pyyaml, rich and safetensors
set -uo pipefail
cd "$(dirname "$0")/.."
: "${OUT:=report/device_check}" "${SCALE:=full}" "${BUDGET_S:=440}" "${BENCH_S:=130}" "${PYTHON:=python3}"
mkdir -p "$OUT"
export PYTHONPATH="$PWD${PYTHONPATH:+:$PYTHONPATH}" PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
failed=0

part() { # part NAME SECONDS COMMAND...
    local name=$1 limit=$2 left=$((BUDGET_S - SECONDS)) status
    shift 2
    if [ "$left" -le 10 ]; then
        echo "== $name: no time left" | tee -a "$OUT/log.txt"
        failed=1
        return
    fi
    [ "$limit" -le "$left" ] || limit=$left
    echo "== $name, at most $limit s" | tee -a "$OUT/log.txt"
    timeout -s INT -k 5 "$limit" "$@" 2>&1 | tee -a "$OUT/log.txt" | tail -n 25
    status=${PIPESTATUS[0]}
    echo "== $name: status $status, ${SECONDS} s in all" | tee -a "$OUT/log.txt"
    [ "$status" -eq 0 ] || failed=1
}

part probes 110 "$PYTHON" tools/device_probes.py --scale "$SCALE" --json "$OUT/probes.json"
part tests 90 "$PYTHON" -m pytest -q -p no:cacheprovider -p no:xdist -rs -m gpu --junitxml="$OUT/tests.xml" \
    $(grep -l "mark.gpu" test/unit/*.py)
part bench 220 "$PYTHON" -m specprune_ros.cli.main bench --model openvla-7b --scale "$SCALE" --time-limit "$BENCH_S" \
    --json "$OUT/bench-openvla-7b.json"
part profile 60 "$PYTHON" tools/device_probes.py --scale "$SCALE" --profile --json "$OUT/profile.json"
ls -l "$OUT"
exit "$failed"

#!/usr/bin/env bash
# Both small policies on a machine with a GPU and 16 cores, in one command: records demonstrations, trains the vision
# towers, then `plain` and `robust`. Each part has its share of BUDGET_S seconds, and training is fitted into its share.
# Files of motions (`specprune train --until motions`) in WORK/demos spare it the simulation: it only renders them.
#   OUT=DIR        what comes back: at most 7 files of at most 16 MiB: robust.tar, plain.tar, logs
#   WORK=DIR       demonstrations and states; a second run continues there
#   SCALE=tiny     the same path on a CPU in a minute or two: a rehearsal, what it learns is nothing
#   LIMITS=S,S,S,S the shares, in seconds
#   PYTHON=python3 a Python with torch, mujoco, numpy, opencv-python-headless, transformers and safetensors
# Unpack:  mkdir -p policy && cat robust.tar* | tar -x -C policy
set -uo pipefail
cd "$(dirname "$0")/.."
: "${OUT:=report/device_train}" "${WORK:=train}" "${SCALE:=full}" "${BUDGET_S:=540}" "${PYTHON:=python3}"
: "${SUITES:=all}" "${WORKERS:=$(nproc)}"
mkdir -p "$OUT" "$WORK"
export PYTHONPATH="$PWD${PYTHONPATH:+:$PYTHONPATH}" PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
export MUJOCO_GL="${MUJOCO_GL:-egl}"
recipe=gpu
[ "$SCALE" = tiny ] && recipe=tiny

share() { echo $((BUDGET_S * $1 / 100)); } # share PERCENT: seconds

: "${LIMITS:=$(share 18),$(share 14),$(share 44),$(share 18)}"
echo "== limits: $LIMITS s"
timeout -s INT -k 20 $((2 * BUDGET_S)) "$PYTHON" -m specprune_ros.cli.main train --recipe "$recipe" --suites "$SUITES" \
    --policy both --work "$WORK" --out "$WORK/policies" --workers "$WORKERS" --limit "$LIMITS" 2>&1 |
    tee -a "$OUT/log.txt" | tail -n 40
echo "== train: status ${PIPESTATUS[0]}, ${SECONDS} s" | tee -a "$OUT/log.txt"
for policy in plain robust; do
    [ -d "$WORK/policies/$policy" ] || continue
    tar -C "$WORK/policies" -cf "$WORK/$policy.tar" "$policy"
    if [ "$(stat -c %s "$WORK/$policy.tar")" -le 16000000 ]; then
        cp "$WORK/$policy.tar" "$OUT/"
    else
        split -b 15000000 -d -a 1 "$WORK/$policy.tar" "$OUT/$policy.tar."
    fi
done
cat "$WORK"/*.jsonl >"$OUT/losses.jsonl" 2>/dev/null
ls -l "$OUT"
[ -n "$(ls "$OUT"/robust.tar* 2>/dev/null)" ] && [ -n "$(ls "$OUT"/plain.tar* 2>/dev/null)" ]

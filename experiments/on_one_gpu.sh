#!/usr/bin/env bash
# The recommended recipe at the paper's sizes on one GPU, in pieces: for machines that are lent for minutes at a time.
#
#   experiments/on_one_gpu.sh OUT [SECONDS [STUDIES [SCALE [SWEEP OPTIONS...]]]]
#
# Works for SECONDS (default 540), saves, packs everything but the checkpoints into OUT/results.tar.gz, and exits with 75
# while anything is left to do, with 0 when all is done. Call it again with the same arguments to go on: OUT holds the
# runs, their checkpoints and the world models. Data sets have to be prepared before (python -m dwm_jax.data prepare).
#
#   experiments/on_one_gpu.sh out 540 main,model_free paper-recommended --tasks hopper-medium-replay-v2
#   JAX_PLATFORMS=cpu experiments/on_one_gpu.sh out 540 attribution smoke        # shows that it works, on a CPU
set -uo pipefail
cd "$(dirname "$0")/.."
[ $# -ge 1 ] || { sed -n '2,12s/^# \{0,1\}//p' "$0" >&2; exit 2; }
out=$1 seconds=${2:-540} studies=${3:-main,model_free} scale=${4:-paper-recommended}
shift $(($# < 4 ? $# : 4))
mkdir -p "$out"
out=$(cd "$out" && pwd)

timeout --signal=TERM --kill-after=30 "$seconds" \
    "${PYTHON:-python}" -m experiments.sweep "$studies" --scale "$scale" --runs "$out/runs" "$@"
code=$?
case $code in
    0) "${PYTHON:-python}" -m experiments.report "$out/runs" -o "$out/report" ;;
    124 | 130 | 137 | 143) echo "$seconds s are over; the same command goes on" >&2; code=75 ;;
esac
# Written aside: a piece that is cut off while it packs leaves the last whole archive.
tar --exclude=checkpoints -czf "$out/results.new.tar.gz" -C "$out" runs $([ -d "$out/report" ] && echo report) &&
    mv "$out/results.new.tar.gz" "$out/results.tar.gz"
exit $code

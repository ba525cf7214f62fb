#!/usr/bin/env bash
# What a GPU is wanted for, in pieces of minutes: for machines that are lent for ten at a time.
#
#   experiments/on_one_gpu.sh OUT [--seconds 540] [--size paper-hopper] [--pytorch CHECKOUT] [--run CONFIG]
#                                 [--sweep "STUDIES OPTIONS..."] [PIECE...]
#
# Pieces, in this order; all but sweep where none is named:
#   speed      the benchmark: peak, denoiser, its parts, trajectories              -> OUT/speed.jsonl
#   policies   updates/s model-free, fresh, from a pool; 1 and 5 seeds             -> OUT/speed.jsonl
#   bfloat16   denoiser and trajectories with bfloat16 activations                 -> OUT/speed.jsonl
#   pytorch    Decision Diffuser's networks beside them; needs --pytorch           -> OUT/speed.jsonl
#   resume     a run stopped here goes on on the CPU, and one stopped there here   -> OUT/resume
#   run        one whole run of CONFIG (recommended:hopper-medium-replay-v2)       -> OUT/runs
#   sweep      the studies asked for                                               -> OUT/runs, OUT/report
#
# Works for SECONDS, saves, packs all but checkpoints and compiled programs into OUT/results.tar.gz, and exits with 75
# while anything is left to do, with 0 when all is done, with 1 where a piece failed. The same call goes on: a piece that was finished is
# in OUT/done, one that was cut off begins again, a run or a sweep resumes. Data sets have to be prepared before
# (python -m dwm_jax.data prepare).
#
#   experiments/on_one_gpu.sh out --pytorch ~/decision-diffuser
#   JAX_PLATFORMS=cpu experiments/on_one_gpu.sh out --size tiny --run smoke        shows that it works, on a CPU
set -uo pipefail
usage() { sed -n '2,25s/^# \{0,1\}//p' "$0" >&2; exit 2; }
here=$PWD
[ $# -ge 1 ] && [[ $1 != -* ]] || usage
mkdir -p "$1" && out=$(cd "$1" && pwd) || exit 2
shift
cd "$(dirname "$0")/.."
seconds=540 size=paper-hopper pytorch='' config=recommended:hopper-medium-replay-v2 sweep='' pieces=()
while [ $# -gt 0 ]; do
    case $1 in
        --seconds | --size | --pytorch | --run | --sweep) [ $# -ge 2 ] || usage ;;&
        --seconds) seconds=$2; shift 2 ;;
        --size) size=$2; shift 2 ;;
        --pytorch) pytorch=$(cd "$here" && cd "$2" && pwd) || exit 2; shift 2 ;;
        --run) config=$2; shift 2 ;;
        --sweep) sweep=$2; shift 2 ;;
        speed | policies | bfloat16 | pytorch | resume | run | sweep) pieces+=("$1"); shift ;;
        *) usage ;;
    esac
done
if [ ${#pieces[@]} -eq 0 ]; then
    pieces=(speed policies bfloat16 ${pytorch:+pytorch} resume run ${sweep:+sweep})
fi
python=${PYTHON:-python}
until=$((SECONDS + seconds))

# Runs a command until the time is up; it is asked to stop, and killed where it does not.
limited() {
    local left=$((until - SECONDS))
    [ $left -gt 0 ] || return 124
    timeout --signal=TERM --kill-after=30 $left "$@"
}

# The tiny size shows that it works, and its figures mean nothing in any case.
quick=$([ "$size" != tiny ] || echo --quick)
measure() { limited "$python" -m experiments.benchmark $quick --json "$out/speed.jsonl" --sizes "$1" --only "$2"; }

# A run is stopped by SIGTERM once its policies learn, and the same command ends it on the other kind of device.
stop_and_resume() {
    local workdir=$out/resume/$1 first=$2 second=$3 code
    local command=("$python" -m dwm_jax.train --config smoke --config.methods=DWM-TD3BC --workdir "$workdir")
    rm -rf "$workdir"
    JAX_PLATFORMS=$first "${command[@]}" --config.policy.num_updates=2000000 >"$workdir.log" 2>&1 &
    local process=$!
    until grep -qs '"DWM-TD3BC"' "$workdir/metrics.jsonl" || ! kill -0 $process 2>/dev/null || [ $SECONDS -ge $until ]; do
        sleep 1
    done
    kill -TERM $process 2>/dev/null
    wait $process
    code=$?
    [ $SECONDS -lt $until ] || return 124
    [ $code -eq 143 ] || { echo "$1: left with $code instead of 143; see $workdir.log" >&2; return 1; }
    # The same run on the other kind of device, stopped in turn once it has gone on.
    local before after
    before=$(wc -l <"$workdir/metrics.jsonl")
    JAX_PLATFORMS=$second "${command[@]}" --config.policy.num_updates=2000000 >>"$workdir.log" 2>&1 &
    process=$!
    after=$before
    until [ "$after" -gt "$before" ] || ! kill -0 $process 2>/dev/null || [ $SECONDS -ge $until ]; do
        sleep 1
        after=$(wc -l <"$workdir/metrics.jsonl")
    done
    kill -TERM $process 2>/dev/null
    wait $process
    code=$?
    [ $SECONDS -lt $until ] || return 124
    [ $code -eq 143 ] && grep -q 'DWM-TD3BC: resuming from step' "$workdir.log" && [ "$after" -gt "$before" ] ||
        { echo "$1: did not go on; left with $code, see $workdir.log" >&2; return 1; }
    rm -rf "$workdir/checkpoints"
}

piece() {
    local backend
    case $1 in
        speed) measure "$size" peak,training,parts,sampling ;;
        policies) measure "$size" policies ;;
        bfloat16) measure "$size-bfloat16" training,sampling ;;
        pytorch) limited "$python" -m experiments.benchmark.pytorch "$pytorch" $quick --size "$size" --json "$out/speed.jsonl" ;;
        resume)
            backend=${JAX_PLATFORMS:-cuda}
            mkdir -p "$out/resume"
            stop_and_resume "$backend-cpu" "$backend" cpu && stop_and_resume "cpu-$backend" cpu "$backend"
            ;;
        run) limited "$python" -m dwm_jax.train --config "$config" --workdir "$out/runs/whole" ;;
        sweep)
            # Its words are options.
            limited "$python" -m experiments.sweep $sweep --runs "$out/runs/sweep" &&
                "$python" -m experiments.report "$out/runs/sweep" -o "$out/report"
            ;;
    esac
}

mkdir -p "$out/done" "$out/runs"
failed=0 left=0
for name in "${pieces[@]}"; do
    [ -e "$out/done/$name" ] && continue
    [ $SECONDS -lt $until ] || { left=1; continue; }
    echo "== $name" >&2
    piece "$name"
    code=$?
    case $code in
        0) touch "$out/done/$name" ;;
        75 | 124 | 130 | 137 | 143) left=1 ;;
        *) echo "$name failed with $code" >&2; failed=1 ;;
    esac
done
# Written aside: a call that is cut off while it packs leaves the last whole archive. Not of the folder itself, which the
# new file changes: tar complains of that.
(cd "$out" && tar --exclude=checkpoints --exclude=.compiled --exclude='results*.tar.gz' -czf results.new.tar.gz ./* &&
    mv results.new.tar.gz results.tar.gz) || failed=1
if [ $left -ne 0 ]; then
    echo "$seconds s are over; the same command goes on" >&2
    exit 75
fi
exit $failed

#!/usr/bin/env bash
# Preset paper (20 000 iterations of batch 50) on one GPU, seed 0: City100 with the full loss, then the authors' public pairs (pirm)
# with each loss. Each network is scored and reported as soon as it is trained. Run benchmarks/gpu.sh first: it has the tests for a GPU.
#
#     benchmarks/gpu_paper.sh FOLDER              # logs and scores go there
#     LIMIT=7200 benchmarks/gpu_paper.sh FOLDER   # seconds that a training may take in this call; default: 1800
#     DRY_RUN=1 benchmarks/gpu_paper.sh FOLDER    # only prints the commands
#
# Run the same command again to continue where it stopped. A training that reaches its limit keeps its state. The script then
# continues with the next part.
# Networks go to runs/ (or DPED_RUNS), pictures and tables to figures/city100-paper and figures/pirm-paper. Git ignores pictures with
# the authors' photographs. Needs DPED_MIRROR or the internet for the photographs.
#
# It does not train other seeds (folds) of pirm, other losses on City100, or the ablation and the discriminators of 08_claims, and it
# draws no figure of 01, 02, 04, 06 and 07. `make figures PRESET=paper` with DATASET=pirm or DATASET=city100 does all of this.
# Networks that were trained on pirm must not ship: its photographs carry no licence.
#
# NOT RUN: no GPU was at hand when it was written. A test checks its commands, its limits, and a second run (with a stand-in for dped).
set -u
out=$(realpath -m -- "${1:?name a folder for the logs}")
cd "$(dirname "$0")/.."
limit=${LIMIT:-1800}
runs=${DPED_RUNS:-runs}
export DPED_FIGURES=${DPED_FIGURES:-$PWD/figures}
dped=${DPED:-$([ -x .venv/bin/dped ] && echo .venv/bin/dped || echo dped)}
failed=0
trap 'exit 130' INT TERM # Ctrl-C ends dped first, then this script

part() { # name, seconds, command
    local name=$1 seconds=$2 status
    shift 2
    if [ -n "${DRY_RUN:-}" ]; then
        echo "timeout $seconds $*"
        return 0
    fi
    echo "== $name"
    # dped train saves its state at SIGTERM. A command that still runs a minute later is killed.
    timeout --foreground --kill-after=60 "$seconds" "$@" >"$out/$name.log" 2>&1
    status=$?
    tr '\r' '\n' <"$out/$name.log" | tail -n 5
    case $status in
    0) ;;
    124) echo "   stopped after $seconds s; run the same command again to continue" ;;
    137) echo "   killed: still running a minute after its limit, or memory ran out; see $out/$name.log" ;;
    *) echo "   ended with $status; see $out/$name.log" ;;
    esac
    [ "$status" = 0 ] || failed=$((failed + 1))
    return "$status"
}

network() { # dataset, phone, loss: train, score on held-out pairs, report; fails if the training did not end
    local what=(--dataset "$1" --phone "$2" --preset paper) name=$1-$3
    part "train-$name" "$limit" "$dped" train "${what[@]}" --loss "$3" --seed 0 --device cuda || return 1
    part "evaluate-$name" 600 "$dped" evaluate "${what[@]}" --json --device cuda \
        --weights "$runs/$1-paper/train/$2-$3-s0/model.safetensors"
    part "report-$name" 900 "$dped" run 03_training "${what[@]}" --loss "$3" --seed 0
    return 0
}

if [ -z "${DRY_RUN:-}" ]; then
    mkdir -p "$out"
    nvidia-smi --query-gpu=name,driver_version --format=csv,noheader || exit 1
fi
part fetch-city100 1800 "$dped" fetch --dataset city100 --preset paper
network city100 iphonex color+content+texture
part fetch-pirm 1800 "$dped" fetch --dataset pirm --preset paper
trained=0
for loss in color+content+texture mse content+texture mse+texture dong johnson; do
    network pirm iphone "$loss" && trained=$((trained + 1))
done
# 05_tables would first train the missing networks, all of them within its own limit.
if [ "$trained" = 6 ]; then
    part tables 1800 "$dped" run 05_tables --dataset pirm --preset paper --seed 0
else
    echo "Tables 2 and 3 are not run: $((6 - trained)) of 6 networks are missing."
fi
[ "$failed" = 0 ] || echo "$failed parts did not finish."
exit $((failed > 0))

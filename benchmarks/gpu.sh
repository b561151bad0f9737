#!/usr/bin/env bash
# Everything that needs a GPU, in one go: its tests, then each benchmark. About 15 minutes; every part is cut off at its limit and the
# rest goes on. Needs DPED_MIRROR or the internet for the authors' weights and photographs.
#
#     benchmarks/gpu.sh FOLDER        # logs go there
set -u
cd "$(dirname "$0")/.."
out=${1:?name a folder for the logs}
mkdir -p "$out"
python=${PYTHON:-$([ -x .venv/bin/python ] && echo .venv/bin/python || echo python3)}

part() { # name, seconds, command
    local name=$1 limit=$2
    shift 2
    echo "== $name"
    timeout "$limit" "$@" >"$out/$name.log" 2>&1 || echo "   ended with $?"
    tr '\r' '\n' <"$out/$name.log" | tail -n 30
}

nvidia-smi --query-gpu=name,driver_version --format=csv,noheader
part tests 300 "$python" -m pytest -q -n 0 tests/speed/test_gpu.py
part training 180 "$python" benchmarks/training_step.py --device cuda --rounds 2 --iterations 4
part photographs 120 "$python" benchmarks/enhance.py --device cuda --rounds 1
part agree 240 "$python" benchmarks/training_step.py --agree --dataset pirm --iterations 300 --rounds 3 --device cuda
part tried 300 "$python" benchmarks/training_step.py --tried --device cuda --rounds 1 --iterations 4
part profile 120 "$python" benchmarks/training_step.py --profile --device cuda
part profile-plain 60 "$python" benchmarks/training_step.py --profile --form plain --device cuda

#!/usr/bin/env bash
# GPU against CPU: bench/gpu.sh OUTDIR. Stages of at most 8 minutes each.
# Needs torch with CUDA, botorch and pytest; this package need not be installed.
set -uo pipefail
out=${1:?usage: bench/gpu.sh OUTDIR}
cd "$(dirname "${BASH_SOURCE[0]}")/.."
mkdir -p "$out"
export PYTHONPATH=.:kernels${PYTHONPATH:+:$PYTHONPATH}
python=${PYTHON:-python3}

"$python" -c 'import sys, torch; sys.exit(not torch.cuda.is_available())' || { echo "no CUDA device: nothing to compare"; exit 2; }
status=0
timeout 480 "$python" -m pytest -q -p no:cacheprovider -W default tests/test_gpu.py 2>&1 | tee "$out/gpu-tests.txt" || status=1
timeout 480 "$python" -m bench.gpu --out "$out" 2>&1 | tee "$out/gpu-bench.txt" || status=1
exit $status

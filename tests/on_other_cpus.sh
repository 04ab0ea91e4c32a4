#!/usr/bin/env bash
# The suite as other processors compute: with older instructions, which add up in another order, and on one thread and two.
# It takes as many times as long as there are settings, so it is no part of CI. From the repository's root:
#
#   tests/on_other_cpus.sh                           all tests in all settings
#   tests/on_other_cpus.sh oldest avx2-two -n 2      in those settings; what is no setting's name goes to pytest
#
# PYTHON is .venv/bin/python unless it is set. What pytest says is kept in build/on_other_cpus/.
set -uo pipefail
cd "$(dirname "$0")/.."

# What says which instructions are used: ATEN_CPU_CAPABILITY to torch's own kernels, MKL_CBWR to its matrix products in
# float32, ONEDNN_MAX_CPU_ISA to those in bfloat16, OPENBLAS_CORETYPE to those of NumPy, SciPy and faiss.
oldest="ATEN_CPU_CAPABILITY=default MKL_CBWR=COMPATIBLE ONEDNN_MAX_CPU_ISA=SSE41 OPENBLAS_CORETYPE=Nehalem"
avx2="ATEN_CPU_CAPABILITY=avx2 ONEDNN_MAX_CPU_ISA=AVX2 OPENBLAS_CORETYPE=Haswell"
settings=(
    "oldest      $oldest OMP_NUM_THREADS=1"
    "oldest-two  $oldest OMP_NUM_THREADS=2"
    "avx2        $avx2 OMP_NUM_THREADS=1"
    "avx2-two    $avx2 OMP_NUM_THREADS=2"
)

asked=()
while [ $# -gt 0 ] && printf '%s\n' "${settings[@]}" | grep -q "^$1 "; do
    asked+=("$1")
    shift
done

logs=build/on_other_cpus said=() failed=0
mkdir -p "$logs"
for setting in "${settings[@]}"; do
    read -r name variables <<< "$setting"
    [ ${#asked[@]} = 0 ] || [[ " ${asked[*]} " == *" $name "* ]] || continue
    # shellcheck disable=SC2086  # variables are words
    if env $variables "${PYTHON:-.venv/bin/python}" -m pytest "$@" 2>&1 | tee "$logs/$name.log"; then
        said+=("$name: passed, $(tail -n 1 "$logs/$name.log")")
    else
        failed=1
        said+=("$name: FAILED, $(tail -n 1 "$logs/$name.log")")
    fi
done
printf '%s\n' "${said[@]}"
exit "$failed"

#!/bin/bash
# `make bench`: a training step and a denoise step of tiny and small, on one rank and on two, then
# every program of tests/bench. One line a measurement on standard output.
set -eu
cd "$(dirname "$0")/.."
build=${BUILD:-build}

if [ "$(id -u)" = 0 ]; then
    export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
fi
export OMPI_MCA_rmaps_base_oversubscribe=1 OMPI_MCA_mpi_yield_when_idle=1
export OMPI_MCA_hwloc_base_binding_policy=none OMPI_MCA_pml=ob1 OMPI_MCA_btl=self,vader
export OMP_WAIT_POLICY=passive

grep -m 1 'model name' /proc/cpuinfo | sed 's/.*: //'
"$build/zoetrope" --version
for ranks in 1 2; do
    echo "== $ranks rank$([ $ranks = 1 ] || echo s)"
    mpirun -n "$ranks" "$build/zoetrope" bench
done
for program in "$build"/tests/bench/bench_*; do
    [ -x "$program" ] || continue
    echo "== $(basename "$program")"
    "$program"
done

#!/bin/bash
# The power goes at any instant of a save: see fault_power.c. 500 states, LONG=1 10,000; SEED=n others.
# limit_s: 3000
set -u
# shellcheck source=tests/fault/fault_support.sh
. tests/fault/fault_support.sh

times=1
[ -n "${LONG:-}" ] && times=17
fault fault_power next 1 save $((150 * times)) "$seed"
fault fault_power next 4 save $((60 * times)) "$seed"
for scene in first replace replace_slowly; do
    fault fault_power $scene 1 save $((60 * times)) "$seed"
done
for scene in next replace replace_slowly; do
    fault fault_power $scene 1 flush $((60 * times)) "$seed"
done
for scene in next first replace; do fault fault_power $scene 1 killed $((60 * times)) "$seed"; done

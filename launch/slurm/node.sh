#!/usr/bin/env bash
# What launch/slurm/train.sbatch starts once per node, inside the container where there is one.
set -euo pipefail
here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"

# Unresolvable, it would be looked for until the time-out of the rendezvous, minutes in silence.
if ! getent ahosts "$MASTER_ADDR" >/dev/null; then
  echo "[slurm] $(hostname) cannot resolve MASTER_ADDR=$MASTER_ADDR, where worker 0 runs: export the address of" \
    "${SLURMD_NODENAME:-the first node}'s network that the nodes share before sbatch" >&2
  exit 1
fi
export NODE_RANK="$SLURM_NODEID"
exec "$here/../local.sh" "$@"

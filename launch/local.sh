#!/usr/bin/env bash
# Trains on this machine: one process per visible GPU, or two CPU processes where there is none.
#   launch/local.sh [group=choice ...] [group.setting=value ...]
#   NPROC=4 launch/local.sh model=qwen05b data.path=pairs.jsonl      another number of processes
# On several machines together (docs/NODES.md): the same command on each, but for its own number. MASTER_ADDR is machine 0.
#   NODES=2 NODE_RANK=0 MASTER_ADDR=10.0.0.1 launch/local.sh model=qwen7b data.path=pairs.jsonl
#   NODES=2 NODE_RANK=1 MASTER_ADDR=10.0.0.1 launch/local.sh model=qwen7b data.path=pairs.jsonl
# MASTER_PORT: a free port there (29500). MASTER_WAIT: seconds that the others wait for it (300).
set -euo pipefail
root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
command -v accelerate >/dev/null || PATH="$root/.venv/bin:$PATH" # what `make setup` made, when nothing is activated

read -r gpus cores < <(python -c 'import os, torch; print(torch.cuda.device_count(), len(os.sched_getaffinity(0)))')
nproc="${NPROC:-$((gpus > 0 ? gpus : 2))}"
if ((gpus == 0)); then
  # torch would start as many threads as there are cores in every process.
  export OMP_NUM_THREADS="${OMP_NUM_THREADS:-$((cores > nproc ? cores / nproc : 1))}"
fi

nodes="${NODES:-1}" node=0 address=127.0.0.1 port=0 # port 0: a free one, for several runs on one machine
if ((nodes > 1)); then
  node="${NODE_RANK:?is the number of this machine, from 0 to NODES - 1}"
  address="${MASTER_ADDR:?is the name or address of machine 0, as the others reach it}" port="${MASTER_PORT:-29500}"
  (cd "$root" && python -m dpo.distributed.master "$nodes" "$node" "$address" "$port" "${MASTER_WAIT:-300}")
fi

# Asked to stop, the launcher kills what has not left after 30 s (SIGTERM, Ctrl-C): writing a large state takes longer.
export TORCH_ELASTIC_SHUTDOWN_TIMEOUT="${TORCH_ELASTIC_SHUTDOWN_TIMEOUT:-600}"
# Schedulers send USR1 to every process. The workers listen to it; the launcher would die of it and leave them behind.
trap '' USR1

# `accelerate launch` itself, but a failed run ends with its own message and exit code, not with forty lines of the
# launcher's stack below it. (--quiet does that for a single process only, accelerate 1.15.)
accelerate='
import logging, signal, sys
from accelerate.commands.accelerate_cli import main
from torch.distributed.elastic.multiprocessing.api import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

logging.disable(logging.CRITICAL)
try:
    main()
except ChildFailedError as failed:
    rank, first = failed.get_first_failure()
    if first.exitcode > 0:
        sys.exit(first.exitcode)
    sys.exit(f"worker {rank} was ended by {signal.Signals(-first.exitcode).name}, and with it the run")
except SignalException as stopped:
    sys.exit(128 + stopped.sigval)
'
# The file keeps the user's own default config out. Every value is given, so that accelerate does not guess and warn.
exec python -c "$accelerate" launch --config_file "$root/launch/accelerate.yaml" --num_processes "$((nproc * nodes))" \
  --num_machines "$nodes" --machine_rank "$node" --main_process_ip "$address" --main_process_port "$port" \
  --mixed_precision no --dynamo_backend no "$root/train.py" "$@"

#!/usr/bin/env bash
# launch/local.sh in a container of the image `dpo` (docker build -t dpo .): with all GPUs of this machine, as the user who
# calls it, outputs and caches kept outside.
#   launch/docker.sh model=qwen7b data.path=/data/pairs.jsonl
#   DATA=~/pairs CACHE=/scratch/cache launch/docker.sh model.path=/data/my-sft-model data.path=/data/pairs.jsonl
#   launch/docker.sh dpo doctor doctor.gpus=8                  any other command (launch/entry.sh)
#   NODES=2 NODE_RANK=0 MASTER_ADDR=10.0.0.1 launch/docker.sh model=qwen7b        one of several machines (docs/NODES.md)
# Ctrl-C and `docker stop` save a checkpoint, and the same command continues from there.
#
# From the environment:
#   IMAGE     dpo               OUTPUTS   ./outputs, seen as /app/outputs      SHM   16g: what local workers exchange
#   DATA      nothing, or a folder of models and pairs, seen as /data, read only
#   CACHE     ~/.cache/dpo: downloads of the hub, what DeepSpeed compiled; seen as /cache
#   NETWORK   Docker's own (bridge), with NODES host     DOCKER_OPTIONS   more words for `docker run`
set -euo pipefail
outputs="$(realpath -m "${OUTPUTS:-outputs}")" cache="$(realpath -m "${CACHE:-$HOME/.cache/dpo}")"
mkdir -p "$outputs" "$cache" # Docker would make them, as root

options=(
  --rm --init                # a process 1 that takes in what a killed launcher leaves
  --stop-timeout 600         # seconds from `docker stop` to SIGKILL: writing a large state takes longer than Docker's 10
  --user "$(id -u):$(id -g)" # what is written belongs to who asked for it
  --shm-size "${SHM:-16g}"   # Docker's own 64 MiB are too little for NCCL and gloo between local workers
  --mount "type=bind,src=$outputs,dst=/app/outputs"
  --mount "type=bind,src=$cache,dst=/cache"
)
[[ -z ${DATA:-} ]] || options+=(--mount "type=bind,src=$(realpath "$DATA"),dst=/data,readonly")
[[ ! -t 0 || ! -t 1 ]] || options+=(--interactive --tty)

# Only the names: Docker takes the values from this environment, and `ps` shows no key. What is not set is not passed on.
for name in HF_TOKEN HF_ENDPOINT HF_HUB_OFFLINE WANDB_API_KEY WANDB_BASE_URL WANDB_ENTITY WANDB_MODE WANDB_PROJECT \
  HTTP_PROXY HTTPS_PROXY NO_PROXY http_proxy https_proxy no_proxy CUDA_VISIBLE_DEVICES OMP_NUM_THREADS NPROC \
  NODES NODE_RANK MASTER_ADDR MASTER_PORT MASTER_WAIT "${!NCCL_@}" "${!GLOO_@}" "${!TORCH_NCCL_@}"; do
  [[ -z ${!name:-} ]] || options+=(--env "$name")
done

if nvidia-smi --list-gpus >/dev/null 2>&1; then
  # InfiniBand registers its buffers as locked memory; the stack is what NVIDIA's images ask for.
  options+=(--gpus all --ulimit memlock=-1 --ulimit stack=67108864)
fi
if ((${NODES:-1} > 1)); then
  NETWORK="${NETWORK:-host}" # workers of other machines reach this one's ports, NCCL its network cards
  [[ ! -e /dev/infiniband ]] || options+=(--device /dev/infiniband --cap-add IPC_LOCK)
fi
[[ -z ${NETWORK:-} ]] || options+=(--network "$NETWORK")
read -r -a more <<<"${DOCKER_OPTIONS:-}"
exec docker run "${options[@]}" "${more[@]}" "${IMAGE:-dpo}" "$@"

#!/usr/bin/env bash
# What a container starts with: settings train on this machine's GPUs, any other first word is a command.
#   docker run dpo model=qwen7b data.path=/data/pairs.jsonl        as launch/local.sh
#   docker run dpo --help
#   docker run dpo dpo doctor                                      as python -m dpo doctor
#   docker run dpo torchrun --nnodes 2 ... train.py model=qwen7b
# It execs, so that the signal of `docker stop` reaches the launcher, which passes it on to the workers.
set -euo pipefail
case "${1:-}" in
  -*) exec python train.py "$@" ;;
  "" | *=*) exec launch/local.sh "$@" ;;
  *) exec "$@" ;;
esac

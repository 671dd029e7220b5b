#!/usr/bin/env bash
# Starts a launch again whenever it ends badly; each start continues from the newest checkpoint.
#   launch/keep.sh launch/local.sh model=qwen05b data.path=pairs.jsonl
#   launch/keep.sh torchrun --nproc_per_node 8 train.py model=qwen7b
# It ends with the run (exit code 0), with a wrong configuration (2), after five bad ends within a minute each, and on
# SIGTERM, SIGINT or SIGUSR1: those are passed on as SIGTERM, and the run keeps what is done.
set -uo pipefail
pause="${PAUSE:-5}" # seconds before the next start

asked="" child="" quick=0 code=1
trap 'asked=1; [[ -n $child ]] && kill -TERM "$child" 2>/dev/null' TERM INT USR1
while [[ -z $asked ]]; do
  began=$SECONDS
  "$@" &
  child=$!
  [[ -n $asked ]] && kill -TERM "$child" # asked before there was a child to pass it on to
  wait "$child"
  code=$?
  while kill -0 "$child" 2>/dev/null; do # it was `wait` that a signal ended
    wait "$child"
    code=$?
  done
  child=""
  if [[ -n $asked || $code == 0 || $code == 2 ]]; then
    break
  fi
  quick=$((SECONDS - began < 60 ? quick + 1 : 0))
  if ((quick == 5)); then
    echo "keep.sh: five bad ends within a minute each, the last with exit code $code: that is no passing fault" >&2
    break
  fi
  echo "keep.sh: ended with exit code $code, starting again in $pause s" >&2
  sleep "$pause"
done
exit "$code"

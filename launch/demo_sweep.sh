#!/usr/bin/env bash
# The embedded demo of a sweep: three losses at three betas from the warmed-up tiny model, then a table and a picture.
# Arguments go to all runs.
set -euo pipefail
here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
cd "$here/.."
PATH="$PWD/.venv/bin:$PATH" # what `make setup` made, when nothing is activated

echo "1/2  supervised warm-up on both kinds of answers"
"$here/local.sh" experiment=demo_sft "$@"
echo
echo "2/2  the sweep"
exec python -m dpo sweep experiment=demo_sweep loss=sigmoid,ipo,hinge loss.beta=0.1,0.5,2.0 "$@"

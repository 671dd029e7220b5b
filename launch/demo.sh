#!/usr/bin/env bash
# The embedded demo: a supervised warm-up of the random tiny model, then DPO from it. Arguments go to both runs.
set -euo pipefail
here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"

echo "1/2  supervised warm-up on both kinds of answers"
"$here/local.sh" experiment=demo_sft "$@"
echo
echo "2/2  direct preference optimization"
"$here/local.sh" experiment=demo "$@"

#!/usr/bin/env bash
# The runs behind the README's table of the paper's reading: obce compress on five GLUE tasks by the
# merge radius, with percentiles within each layer, then the table.
#
#     results/run.sh [TASK ...]
#
# Takes the better part of an hour on two cores; an interrupted run goes on where it stopped.
# GLUE comes from the folder OBCE_GLUE_DIR, or else from the Hub.
set -euo pipefail
cd "$(dirname "$0")/.."
bin=${BIN:-.venv/bin}
declare -A options=(
  [sst2]="--epochs 2 --finetune-epochs 1 --train-limit 20000"
  [cola]="--epochs 4 --finetune-epochs 2"
  [mrpc]="--epochs 4 --finetune-epochs 2"
  [stsb]="--epochs 3 --finetune-epochs 2"
  [rte]="--epochs 4 --finetune-epochs 2"
)
for task in "${@:-sst2 cola mrpc stsb rte}"; do
  for name in $task; do
    # shellcheck disable=SC2086
    "$bin/obce" compress embedded --task "$name" --keep-encoder 0.465 ${options[$name]} \
      --score merge_radius --texts 512 --ridge 0.001 --weighting none --out "out/results/$name"
    cp "out/results/$name/record.json" "results/compress_$name.json"
  done
done
[ $# -gt 0 ] || "$bin/python" results/table.py

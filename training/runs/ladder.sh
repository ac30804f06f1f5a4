#!/bin/sh
# EmotionNet on FER2013's own labels alone, comparable with published figures: first at 64 px, then at 96 px, begun
# with and taught by the first. It goes on where it was stopped: run it again.
# Usage: training/runs/ladder.sh DATA [RUNS]     DATA: FER2013 as a folder or tar, or "kaggle"
#        DEVICE=cuda training/runs/ladder.sh ...  on a GPU
#        EMOTIONTRAIN="torchrun --standalone --nproc-per-node 2 -m emotiontrain" ...  for several processes
set -eu
data=${1:?usage: $0 DATA [RUNS]}
runs=${2:-runs}
. "$(dirname "$0")/common.sh"

train "$data" "$runs/ladder-64" --patience 11
train "$data" "$runs/ladder" $precision --side 96 --epochs 60 --learning-rate 1e-3 \
  --start "$runs/ladder-64" --teacher "$runs/ladder-64" --distill 0.5 --mixup 0.4 --dropout 0.3 --weight-decay 0.1 \
  --zoom 0.2 --shift 0.12 --rotate 15 --erase 0.4
emotiontrain export "$runs/ladder" "$runs/ladder/weights" --name ladder --version 1.0.0 --data "$data"
emotiontrain evaluate "$runs/ladder/weights" "$data" --split validation --store
# The test split is looked at once, when nothing is chosen any more.
emotiontrain evaluate "$runs/ladder/weights" "$data" --split test --store --report "$runs/ladder/report"

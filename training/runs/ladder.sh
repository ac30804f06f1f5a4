#!/bin/sh
# EmotionNet on FER2013's own labels alone, comparable with published figures: first at 64 px, then at 96 px, then
# with sharpness-aware minimisation, then taught by itself too; at last the mean of that and of two runs that went on from it
# with other seeds. It goes on where it was stopped: run it again.
# Usage: training/runs/ladder.sh DATA [RUNS]     DATA: FER2013 as a folder or tar, or "kaggle"
#        DEVICE=cuda training/runs/ladder.sh ...  on a GPU
#        EMOTIONTRAIN="torchrun --standalone --nproc-per-node 2 -m emotiontrain" ...  for several processes
set -eu
data=${1:?usage: $0 DATA [RUNS]}
runs=${2:-runs}
. "$(dirname "$0")/common.sh"

train "$data" "$runs/ladder-64" --side 64 --epochs 20 --learning-rate 8e-3 --mixup 0 --dropout 0.2 \
  --rotate 12 --zoom 0.12 --shift 0.08 --erase 0.25
train "$data" "$runs/ladder-96" --start "$runs/ladder-64" --epochs 28
train "$data" "$runs/ladder-sam" --start "$runs/ladder-96" --epochs 10 --learning-rate 2e-3 --sam 0.05
train "$data" "$runs/ladder" --start "$runs/ladder-sam" --teacher "$runs/ladder-sam" --distill 0.5 \
  --epochs 32 --learning-rate 5e-3 --sam 0.05
for seed in 21 22; do
  train "$data" "$runs/ladder-$seed" --start "$runs/ladder" --teacher "$runs/ladder" --distill 0.5 --epochs 10 \
    --learning-rate 3e-3 --seed "$seed"
done
emotiontrain export "$runs/ladder" "$runs/ladder/weights" --name ladder --version "$version" \
  --average "$runs/ladder-21" --average "$runs/ladder-22" --data "$data"
emotiontrain evaluate "$runs/ladder/weights" "$data" --split validation --store
# The test split is looked at once, when nothing is chosen any more.
emotiontrain evaluate "$runs/ladder/weights" "$data" --split test --store --report "$runs/ladder/report"

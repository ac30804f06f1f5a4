#!/bin/sh
# What follows the shipped weights 1.0.0: the ladder's network, taught by FER+'s votes as well as by FER2013's labels.
# They are written to RUNS/shipped/weights; the last line says how to put them in the place of those in the checkout. It
# goes on where it was stopped: run it again. Its last stage has not been run whole: ../RESULTS.md says how far it came.
# Usage: training/runs/shipped.sh DATA VOTES [RUNS]     DATA: FER2013 as a folder or tar, or "kaggle";
#        VOTES: what `emotiontrain votes` wrote            DEVICE and EMOTIONTRAIN: as in ladder.sh
set -eu
data=${1:?usage: $0 DATA VOTES [RUNS]}
votes=${2:?usage: $0 DATA VOTES [RUNS]}
runs=${3:-runs}
. "$(dirname "$0")/common.sh"
weights=$runs/shipped/weights

"$(dirname "$0")/ladder.sh" "$data" "$runs"
train "$data" "$runs/shipped" $precision --side 96 --epochs 40 --learning-rate 5e-4 \
  --votes "$votes" --vote-weight 0.6 --mixup 0 --label-smoothing 0.02 --start "$runs/ladder"
emotiontrain export "$runs/shipped" "$weights" --name emotionnet --version 2.0.0 \
  --data "$data" --votes "$votes" --calibrate-on votes
emotiontrain evaluate "$weights" "$data" --votes "$votes" --split validation --store
# The test split is looked at once, when nothing is chosen any more.
emotiontrain evaluate "$weights" "$data" --votes "$votes" --split test --store --report "$runs/shipped/report"
echo "to ship them: cp '$weights'/emotionnet.* models/emotionnet/weights/"

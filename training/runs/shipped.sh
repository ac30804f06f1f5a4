#!/bin/sh
# The shipped weights: the ladder's network, taught by FER+'s votes as well as by FER2013's labels. They are written to
# RUNS/shipped/weights; the last lines say how to put them in the place of those in the checkout. It goes on where it
# was stopped: run it again.
# Usage: training/runs/shipped.sh DATA VOTES [RUNS]     DATA: FER2013 as a folder or tar, or "kaggle";
#        VOTES: what `emotiontrain votes` wrote            DEVICE and EMOTIONTRAIN: as in ladder.sh
set -eu
data=${1:?usage: $0 DATA VOTES [RUNS]}
votes=${2:?usage: $0 DATA VOTES [RUNS]}
runs=${3:-runs}
. "$(dirname "$0")/common.sh"
weights=$runs/shipped/weights
checkout=$(cd "$(dirname "$0")/../.." && pwd)

"$(dirname "$0")/ladder.sh" "$data" "$runs"
# Three of the same but for the seed; then the mean of their weights and of two of the ladder's.
for seed in 1 11 12; do
  train "$data" "$runs/shipped-$seed" --votes "$votes" --vote-weight 0.7 --start "$runs/ladder" \
    --teacher "$runs/ladder" --distill 0.3 --epochs 10 --learning-rate 3e-3 --label-smoothing 0.05 --seed "$seed"
done
emotiontrain export "$runs/shipped-1" "$weights" --name emotionnet --version "$version" \
  --average "$runs/shipped-11" --share 0.25 --average "$runs/shipped-12" --share 0.25 \
  --average "$runs/ladder" --share 0.125 --average "$runs/ladder-21" --share 0.125 \
  --data "$data" --votes "$votes" --calibrate-on votes
emotiontrain evaluate "$weights" "$data" --votes "$votes" --split validation --store
# The test split is looked at once, when nothing is chosen any more.
emotiontrain evaluate "$weights" "$data" --votes "$votes" --split test --store --report "$runs/shipped/report"
# The same in 8 bits, for CPUs.
emotiontrain quantize "$weights" "$data" "$weights-int8"
emotiontrain evaluate "$weights-int8" "$data" --votes "$votes" --split validation --store
emotiontrain evaluate "$weights-int8" "$data" --votes "$votes" --split test --store
cat <<END
To ship them, beside figures in the model card, README.md, CHANGELOG.md and training/RESULTS.md:
cp '$weights'/emotionnet.* '$checkout/models/emotionnet/weights/'
cp '$weights-int8'/emotionnet-int8.* '$checkout/models/emotionnet/weights-int8/'
cp '$runs/ladder/weights'/ladder.* '$checkout/training/ladder/'
END

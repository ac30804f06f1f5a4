#!/bin/sh
# What made models/emotionnet/weights 1.0.0, with the defaults that version 0.1.0 had: on two cores about an hour.
# Usage: training/runs/first.sh DATA [RUN]   (DATA: FER2013 as a folder or tar, or "kaggle")
set -eu
data=${1:?usage: $0 DATA [RUN]}
run=${2:-runs/first}
weights=models/emotionnet/weights

emotiontrain data "$data"
emotiontrain train "$data" "$run" --epochs 36
emotiontrain export "$run" "$weights" --version 1.0.0
emotiontrain evaluate "$weights" "$data" --split validation --store
# The test split is looked at once, when nothing is chosen any more.
emotiontrain evaluate "$weights" "$data" --split test --store

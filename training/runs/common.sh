# Read by the scripts beside it: they call emotiontrain from the PATH or from the checkout's .venv, and train in several
# processes where EMOTIONTRAIN says so.
tool=$(command -v emotiontrain || echo "$(dirname "$0")/../../.venv/bin/emotiontrain")
if ! [ -x "$tool" ]; then
  echo "$0: emotiontrain is not there; install it, see docs/training.md, or activate the environment that has it" >&2
  exit 1
fi
device=${DEVICE:-cpu}

# bfloat16 on GPUs and on CPUs that have it, where compiling brings something too; elsewhere both would only be slower. A
# run that was begun with one precision does not go on with the other.
if [ "$device" != cpu ] || grep -qE 'avx512_bf16|amx_bf16' /proc/cpuinfo 2>/dev/null; then
  precision="--precision bfloat16$(command -v c++ >/dev/null && echo ' --compile' || true)"
else
  precision='--precision float32'
fi

# Events carry name and version of the weights: weights that are not the project's own should have another one.
version=${VERSION:-2.2.0}

emotiontrain() { "$tool" "$@"; }

# `train` alone may have a launcher in front of it.
train() { ${EMOTIONTRAIN:-emotiontrain} train "$@" --device "$device" $precision; }

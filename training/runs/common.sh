# Read by the scripts beside it: they call emotiontrain from the PATH or from the checkout's .venv, and train in several
# processes where EMOTIONTRAIN says so.
tool=$(command -v emotiontrain || echo "$(dirname "$0")/../../.venv/bin/emotiontrain")
if ! [ -x "$tool" ]; then
  echo "$0: emotiontrain is not there; install it, see docs/training.md, or activate the environment that has it" >&2
  exit 1
fi
device=${DEVICE:-cpu}
compile=$(command -v c++ >/dev/null && echo --compile || true)   # a fifth faster where there is a compiler

# Mixed precision where the hardware has it; elsewhere it would only be slower. A run that was begun on a machine with it
# does not go on where there is none.
if [ "$device" != cpu ] || grep -qE 'avx512_bf16|amx_bf16' /proc/cpuinfo 2>/dev/null; then
  precision='--precision bfloat16'
else
  precision='--precision float32'
fi

emotiontrain() { "$tool" "$@"; }

# `train` alone may have a launcher in front of it.
train() { ${EMOTIONTRAIN:-emotiontrain} train "$@" --device "$device" $precision $compile; }

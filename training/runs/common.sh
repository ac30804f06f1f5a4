# Read by the scripts beside it: they call emotiontrain from the PATH or from the checkout's .venv, and train in several
# processes where EMOTIONTRAIN says so.
tool=$(command -v emotiontrain || echo "$(dirname "$0")/../../.venv/bin/emotiontrain")
if ! [ -x "$tool" ]; then
  echo "$0: emotiontrain is not there; install it, see docs/training.md, or activate the environment that has it" >&2
  exit 1
fi
device=${DEVICE:-cpu}
compile=$(command -v c++ >/dev/null && echo --compile || true)   # a fifth faster where there is a compiler

emotiontrain() { "$tool" "$@"; }

# `train` alone may have a launcher in front of it.
train() { ${EMOTIONTRAIN:-emotiontrain} train "$@" --device "$device" $compile; }

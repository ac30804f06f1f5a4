"""The commands of `emotiond`, one module each; `main(args)` returns the exit code."""

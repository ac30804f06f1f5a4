"""The clip that `emotiond demo` plays, and the script that made it."""

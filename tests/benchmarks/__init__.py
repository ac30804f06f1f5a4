"""Figures of this machine; nothing here asserts a time."""

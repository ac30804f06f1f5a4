"""Benchmarks of the analyzer in torch, on a GPU or, in small, on a CPU."""

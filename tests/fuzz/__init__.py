"""Arbitrary inputs for what reads text and bytes from outside: `make fuzz`."""

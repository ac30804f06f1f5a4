"""The live page: what the daemon sees now, for people who look at it."""

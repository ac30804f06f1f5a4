"""The analyzer in torch: whole batches from planes to probabilities on one device, a GPU or, for tests, the CPU."""

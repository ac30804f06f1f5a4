"""Random faults against delivery, with a seed and a judge: `make chaos`."""

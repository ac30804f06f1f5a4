"""What is measured in a process of its own; each module prints its figures as a line of JSON."""

"""What a set of weights is worth: figures, robustness, the daemon's own path, and the page that shows them."""

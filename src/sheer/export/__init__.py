"""Taking it away: the run as a plain PyTorch script."""

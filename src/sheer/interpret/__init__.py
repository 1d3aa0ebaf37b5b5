"""What it learned: one table of predictions that everything else reads."""

"""What we learn from: items, targets and split; size and pixels belong to the phase."""

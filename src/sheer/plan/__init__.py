"""What will be done: the vocabulary of decisions. Nothing here imports torch."""

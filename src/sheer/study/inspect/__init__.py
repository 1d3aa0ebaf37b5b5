"""What the network sees, against its pretraining."""

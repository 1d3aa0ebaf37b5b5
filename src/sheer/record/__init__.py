"""What happened: the run folder."""

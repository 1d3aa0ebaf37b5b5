"""What counts as right: losses and metrics."""

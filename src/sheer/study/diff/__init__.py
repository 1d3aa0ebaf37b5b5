"""Every decision that two plans make differently."""

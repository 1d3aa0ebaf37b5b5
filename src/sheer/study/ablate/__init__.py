"""One decision at a time, over seeds; short paired probes."""

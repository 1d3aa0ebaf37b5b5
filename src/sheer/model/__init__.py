"""What learns: backbones, their surgery, heads, stages and norm policy."""

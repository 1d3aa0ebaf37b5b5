"""What is wrong with a plain PyTorch loop: checks, findings, and everything put back."""

"""Two set-ups in lock step: the first tensor that differs, and what that means."""

"""Doing it: the only loop, its step, its optimisers and its observers."""

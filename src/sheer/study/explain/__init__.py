"""A plan in words, each sentence with its line of the script."""

"""Why, and what if: explanations, differences, lock-step comparison, ablations, and a doctor for foreign loops."""

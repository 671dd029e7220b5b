"""Training prompts that a benchmark holds too: found by the runs of words they share."""

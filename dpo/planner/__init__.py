"""Memory, time and cost of a run before it is queued: arithmetic over a `Job`, without weights, GPUs or a network."""

"""Where a run's numbers are shown besides metrics.jsonl: Weights & Biases, TensorBoard, or nowhere."""

"""From settings to jobs of Slurm: batch.py writes a script, sweep.py says what a sweep needs, queue.py submits."""

"""The parts of benchmarks/compare.py: this project and TRL's DPOTrainer on the same model and the same pairs."""

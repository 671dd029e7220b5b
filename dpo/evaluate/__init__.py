"""Measuring the policy on prompts that are never trained on."""

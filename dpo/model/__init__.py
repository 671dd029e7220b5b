"""The policy and the reference: loading, attention over shared prompts, scoring head, adapters."""

"""The reference log-probabilities, computed once and kept on disk.

`fingerprint` names the model that gave a value, `keys` the response it belongs to; `store` holds the values, `missing`
finds what it lacks, `compute` is the pass that fills the gaps, `fill` puts all of it in order; `listing` is what
`python -m dpo cache` shows.
"""

"""PairLogps -> losses: pure functions in families (logistic, shapes, absolute, transport, likelihood), the table of all
of them (registry), and what the step uses (loss)."""

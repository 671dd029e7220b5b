"""`python -m dpo doctor`: is this node fit for a job? One file per subject, one function per check (table.py).

A check returns findings, each ok, warn or fail with the cure; examine.py runs them within their time limits.
"""

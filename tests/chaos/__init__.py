"""`python -m tests.chaos`: everything goes wrong at once, then every job and payment is accounted for.

Real processes; the providers are the simulator. What is to go wrong is drawn from a seed (`plan.py`), done by
`supervisor.py` and `mischief.py`, read back by `evidence.py`, and judged by `accounting.py`, which is pure.
"""

"""The receiver under attack: `python -m tests.hostile --requests 100000 --seed 1`."""

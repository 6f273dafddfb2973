"""What a user would write today for the same work, each a program of its own in `.venv/peers`.

Nothing in here knows the product, and the product's environment has none of what these need. Each keeps the
final state and the picture's URL of every job in the way of its library, and fetches no picture. Processes
and their arguments stand in `bench/contestants.py`.
"""

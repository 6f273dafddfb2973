"""What the product does under load, on the local stack against the simulator: `python -m bench NAME`.

Nothing here judges speed. A workload fails only where a job was lost or paid for twice.
"""

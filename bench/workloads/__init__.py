"""One file per workload: a setup, what is done to it, and the figures that matter."""

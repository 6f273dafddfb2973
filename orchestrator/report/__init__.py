"""`orchestrator report`: what became of a batch, as one page that needs nothing else."""

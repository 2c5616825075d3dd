"""What two processes must agree on, and the command line; nothing else."""

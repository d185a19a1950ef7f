"""The training loop, and runs on several GPUs and machines."""

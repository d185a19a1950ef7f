"""The training loop, runs on several GPUs and machines, what MaskGIT trains on."""

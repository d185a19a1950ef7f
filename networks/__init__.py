"""Shared by all models: Keras and its backends, the machine they run on, networks without a command of their own."""

"""What all models share: Keras and its backends, the machine they run on, networks with no command of their own."""

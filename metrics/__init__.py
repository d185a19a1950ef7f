"""Metrics of pictures, of sets of pictures, and of outpainting."""

"""Skies and landscapes drawn from nothing."""

"""Synthetic skies and landscapes, drawn without photographs."""

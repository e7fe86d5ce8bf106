"""Pixels in, a grid of features out."""

"""Pixels in: frames of videos, still images."""

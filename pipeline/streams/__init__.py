"""Cameras and live streams as sources: watched, cut into segments by time, each captioned like a film."""

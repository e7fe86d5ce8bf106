"""Captioned pictures for training: annotations in, HDF5 out."""

"""Bytes by key: folders and object stores behind one interface."""

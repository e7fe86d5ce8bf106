"""This process: its cores, memory, signals, temporary folders, settings, progress."""

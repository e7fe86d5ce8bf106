"""What is passed around: rows, settings, facts about sources."""

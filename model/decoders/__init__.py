"""Features in, one word after the other out."""

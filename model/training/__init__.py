"""How a captioner learns."""

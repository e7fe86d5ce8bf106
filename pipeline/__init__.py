"""The job: sources in; captions, stories and reports out."""

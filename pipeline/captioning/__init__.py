"""The caption job: from sources to published captions."""

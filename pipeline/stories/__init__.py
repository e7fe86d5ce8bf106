"""Stories made of a source's captions."""

from pipeline.stories.outline import outline_story
from pipeline.stories.story import Story, Turn

__all__ = ["Story", "Turn", "outline_story"]

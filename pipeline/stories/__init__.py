"""Stories made of a source's captions, a picture's or a text; told, gone on with, steered, mended."""

from pipeline.stories.operations import (
    continue_story,
    drop_turn,
    material_of,
    outline_story,
    redo_turn,
    start_story,
)
from pipeline.stories.providers import PROVIDERS, StoryFailed
from pipeline.stories.story import Story, Turn
from pipeline.stories.story_settings import StorySettings, require_endpoint, story_settings
from pipeline.stories.timeline import Material

__all__ = [
    "PROVIDERS",
    "Material",
    "Story",
    "StoryFailed",
    "StorySettings",
    "Turn",
    "continue_story",
    "drop_turn",
    "material_of",
    "outline_story",
    "redo_turn",
    "require_endpoint",
    "start_story",
    "story_settings",
]

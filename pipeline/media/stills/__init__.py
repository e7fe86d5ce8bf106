"""What reading stills takes, a format or a question each; `pipeline.media.images` puts them together."""

"""What there is to caption: videos and folders of still images."""

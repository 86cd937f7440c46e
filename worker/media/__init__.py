"""From a media file to the pixels that the vision tower takes."""

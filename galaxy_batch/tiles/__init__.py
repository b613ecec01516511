"""Cutouts from the images of a survey: tiles, frames or bricks that hold many objects each."""

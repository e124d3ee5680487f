"""Models that are elsewhere, brought onto this disk before they are served."""

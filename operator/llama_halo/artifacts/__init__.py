"""Model files, wherever they are: on disk, behind HTTP, on the Hub."""

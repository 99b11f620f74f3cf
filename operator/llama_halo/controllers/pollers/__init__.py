"""What no watch tells: read by name or asked of pods, on a queue of its own."""

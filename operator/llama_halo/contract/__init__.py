"""What two of the processes agree on, each fact once; imports neither side."""

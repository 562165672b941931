"""JSON Schemas of what the program prints for other programs."""

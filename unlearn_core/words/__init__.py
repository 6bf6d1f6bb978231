"""What an artist typed, and what the tool knows of language."""

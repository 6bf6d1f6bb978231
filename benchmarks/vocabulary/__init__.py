"""Makes the vocabulary that the tool brings along, from packages whose licences allow it."""

"""Published methods, one file a paper."""

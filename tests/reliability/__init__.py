"""What docs/reliability.md promises, put to the test: `python -m tests.reliability NAME`."""

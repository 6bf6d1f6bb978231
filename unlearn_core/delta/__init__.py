"""The delta file and the stack: torch and safetensors alone."""

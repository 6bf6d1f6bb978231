"""The bundled demo model and its classifier."""

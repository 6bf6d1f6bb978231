"""What runs only where the closed form is not enough."""

"""What happens to an image that kills its worker or hangs in it."""

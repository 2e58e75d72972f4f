"""One module for each family of encoders."""

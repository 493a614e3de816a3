"""What runs inside the image that `bertie deploy docker` makes."""

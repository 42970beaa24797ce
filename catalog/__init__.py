"""What makes the price snapshot that ships in the wheel. Not part of the wheel itself."""

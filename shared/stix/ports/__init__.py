"""What the application needs from the world, as Protocols. Adapters and clouds implement them."""

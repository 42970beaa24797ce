"""What an operator does to a deployed control plane with their own AWS credentials."""

"""What the README quotes, each one command."""

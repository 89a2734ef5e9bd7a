"""What stands in the prompt when a question about a long conversation is answered."""

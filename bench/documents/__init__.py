"""What is found and what is answered, of documents far larger than the window."""

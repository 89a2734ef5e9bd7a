"""Files as documents: what a file is, and its text in pieces along its structure, each with where it stands."""

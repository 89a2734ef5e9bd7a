"""The instruction set: what a process may emit, and what the kernel does about it."""

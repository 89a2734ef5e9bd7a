"""Mechanisms of the kernel, one a file: sans-IO, no clock, no driver, no syscall names (machine/ alone awaits)."""

"""How fast the llama CPU is, and whether its paging and preemption change what it says."""

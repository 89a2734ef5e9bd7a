"""Run queues. A scheduler orders ready processes; the kernel asks it who runs next when a slot is free."""

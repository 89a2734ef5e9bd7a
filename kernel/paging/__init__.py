"""What the kernel does with memory: functions over state.Kernel, in floors; what memory is stands in memory/."""

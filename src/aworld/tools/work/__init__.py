"""What takes time, memory or a library that may crash: each call of it is a process of its own, see `execute.work`."""

"""What a run needs before it is submitted: memory, time, disk and GPU-hours, as arithmetic without an engine."""

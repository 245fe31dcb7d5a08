"""Makes finished graphs lighter: int8 for processors, fp16 for GPUs, and measures what it costs."""

"""What lies beside the weights of a version: written by the tools, read by gateway and tools."""

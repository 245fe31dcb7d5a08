"""KServe v2 over HTTP in front of Triton: reads and checks requests, then forwards them."""

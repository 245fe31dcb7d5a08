"""KServe v2 over gRPC at the gateway: asks for keys, then passes messages on to Triton."""

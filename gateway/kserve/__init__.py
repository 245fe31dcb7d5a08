"""KServe v2 over HTTP in front of Triton: requests are read and checked here, then handed on."""

"""How tools reach a gateway or Triton: addresses, keys, certificates, clients."""

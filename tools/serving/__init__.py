"""What `aurum serve` is made of: installation, processes, supervision, state of a home."""

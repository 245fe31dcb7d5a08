"""What the calls return: frozen dataclasses, one module for each kind of resource."""

"""The golden set: inputs that ship with the project, and what known weights answer to them."""

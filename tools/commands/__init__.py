"""The commands of `aurum`, a module each; thin over the libraries beside this folder."""

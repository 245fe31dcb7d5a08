"""The models in service and on trial."""

"""The commands of the device half, one module each; they import the rest late."""

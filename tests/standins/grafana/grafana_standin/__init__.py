"""A stand-in for Grafana, see the README beside this package."""

"""Stand-ins for Loki and Alloy, see README.md."""

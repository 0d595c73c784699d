"""What the stand-in needs and upstream does not have: its schema as data and its switches."""

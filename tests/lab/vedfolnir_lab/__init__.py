"""The lab: engine, images, hosts and test parts behind ./lab."""

"""Adapter between the Vedfolnir application and this deployment.

Import nothing here: the health check imports this package and must stay fast.
"""

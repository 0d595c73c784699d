"""A stand-in for Ollama: its HTTP interface and command line, without any model."""

VERSION = "0.12.6"

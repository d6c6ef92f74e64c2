"""The process and the machine it runs on: files, plug-ins, provenance, random streams, ranks."""

"""The process and its machine: files, plug-ins, provenance, random streams, ranks, devices."""

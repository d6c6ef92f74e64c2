"""Looks into finished runs."""

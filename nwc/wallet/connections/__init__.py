"""Connections: their stored records, the registry of those being served, and their info events."""

"""Connections: their stored records, the registry of the live ones, and their info events."""

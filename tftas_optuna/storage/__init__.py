"""Storages: opened, appended to, locked between searches, and waited for."""

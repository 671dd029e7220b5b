"""The embedded demo: small tasks made by code, and the program that judges the answers."""

"""The data report: measures and findings as one HTML page that needs nothing else, and as JSON."""

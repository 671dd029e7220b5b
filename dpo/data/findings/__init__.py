"""What is wrong with preference data: features of every pair, measures over all of them, findings for a person."""

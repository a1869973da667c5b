"""What a study records and gives back: settings, objective, front, selection, accuracy."""

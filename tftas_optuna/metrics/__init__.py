"""Everything that can be an objective or a bound."""

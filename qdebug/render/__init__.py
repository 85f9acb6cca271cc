"""Run record -> string. Nothing here prints, or looks at the terminal, the environment or the clock."""

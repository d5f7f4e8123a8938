"""Who is admitted next, and who gives way."""

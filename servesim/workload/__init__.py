"""What arrives: arrival processes, token lengths and traces, as streams of requests."""

"""The simulated system around the engines: clock, sources, gateway, pools."""

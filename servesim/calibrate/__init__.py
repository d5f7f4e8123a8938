"""From measurements to calibration files."""

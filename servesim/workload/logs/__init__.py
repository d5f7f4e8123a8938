"""Logs of real traffic as workloads: reading any of the usual formats, describing them, fitting compact laws."""

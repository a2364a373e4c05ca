"""The steps of the SIA loop as plain functions, and the state of an arm."""

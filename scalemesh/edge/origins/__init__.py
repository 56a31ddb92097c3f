"""Visits that another origin answers: how its addresses are checked, and what crosses in which direction."""

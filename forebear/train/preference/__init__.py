"""Preference optimisation in parts: settings, data, one trainer for each method, figures."""

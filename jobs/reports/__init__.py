"""Reports: what control saved, what an action saved, and what is recommended. Each is a function and a `told`."""

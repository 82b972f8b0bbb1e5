"""Where it runs: the embedded stack, and files for Docker, Kubernetes and clouds."""

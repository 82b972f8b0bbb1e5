"""Past energy for training, backtests and forecasts from the command line: from files, or from the database."""

"""`energyai replay --verify`: the recorded readings once more into an empty database, and the two compared."""

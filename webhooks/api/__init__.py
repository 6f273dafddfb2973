"""Flask: the HTTP API for producers in other languages. It has a port of its own, and shares no door."""

"""The HTTP side of the server: connections, limits, request bodies, origins of requests, errors."""

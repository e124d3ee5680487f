"""The data plane: models behind V1, V2 (REST and gRPC) and whatever else a client speaks. Usable alone: `mlaas serve DIR`.

It knows nothing of the platform: a serving table says what to serve, and it says how that goes.
"""

"""Decoding: samplers as data, requests and events, the engine, inspection."""

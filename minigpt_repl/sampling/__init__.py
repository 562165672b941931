"""How a token is chosen: parameters, rules, samplers, searches, their registry."""

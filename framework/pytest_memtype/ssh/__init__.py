"""Another machine, reached over SSH: keys, connections, and the agent's way there."""

"""SSH to another machine: keys, connections, and the agent's way there."""

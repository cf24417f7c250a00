"""Looking inside a policy: one episode, step by step, with what agents and mixer computed."""

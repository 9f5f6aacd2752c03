"""From observation to action chunk: the policy step, its engines and the inference process."""

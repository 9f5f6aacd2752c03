"""OpenVLA-OFT: vision towers, projector, Llama decoder with bidirectional attention, action head, checkpoints."""

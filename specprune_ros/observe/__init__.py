"""From measurements to what the policy sees: newest inputs, frame history, end-effector motion, forward kinematics."""

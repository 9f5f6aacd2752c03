"""`specprune demo`: the closed loop over real ROS 2, watched from outside, and its report."""

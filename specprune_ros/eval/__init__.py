"""Episodes played without ROS, statistics of their success, and results files."""

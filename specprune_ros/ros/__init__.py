"""The ROS 2 shell: nodes, messages, parameters. The only importer of rclpy and of message packages."""

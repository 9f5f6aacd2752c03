"""A tabletop pick task in MuJoCo: a primitive-geometry Franka, coloured cubes, two cameras and an expert. No ROS, no
torch."""

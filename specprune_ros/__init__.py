"""Vision-language-action control of a robot arm with pruned visual tokens, on ROS 2."""

__version__ = "0.2.0"

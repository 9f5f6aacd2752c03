"""The one place that imports MuJoCo, so that the OpenGL backend is chosen before its first import.

MuJoCo reads the environment variable ``MUJOCO_GL`` once, while it is imported. Nothing in this package opens a window,
so that EGL renders, whether there is a display or not: it uses a GPU where the driver offers one and Mesa's software
renderer elsewhere (on Debian and Ubuntu: ``libegl1 libegl-mesa0 libgl1-mesa-dri libopengl0``). ``MUJOCO_GL=osmesa`` is
obeyed; any other value is not. Everything in this package says ``from specprune_ros.sim.gl import mujoco``.

An OpenGL context belongs to the thread that made it: create, use and close an environment that renders in one thread.
"""

import os
import sys

from specprune_ros.shell_variables import render_without_display

if sys.platform.startswith("linux"):
    render_without_display(os.environ)

import mujoco  # noqa: E402

__all__ = ["mujoco"]

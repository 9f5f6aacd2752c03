"""The one place that imports MuJoCo, so that the OpenGL backend is chosen before its first import.

MuJoCo reads the environment variable ``MUJOCO_GL`` once, while it is imported. When it is unset and there is no
display, ``egl`` is set: it needs no display, uses a GPU where the driver offers one and Mesa's software renderer
elsewhere (on Debian and Ubuntu: ``libegl1 libegl-mesa0 libgl1-mesa-dri libopengl0``). Everything in this package says
``from specprune_ros.sim.gl import mujoco``.

An OpenGL context belongs to the thread that made it: create, use and close an environment that renders in one thread.
"""

import os
import sys

if sys.platform.startswith("linux") and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
    os.environ.setdefault("MUJOCO_GL", "egl")

import mujoco  # noqa: E402

__all__ = ["mujoco"]

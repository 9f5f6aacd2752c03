"""Exit status 0 when this machine can render without a display: EGL, as MuJoCo uses it. Standard library only."""

import ctypes
import ctypes.util
import sys

PLATFORM_DEVICE = 0x313F  # EGL_PLATFORM_DEVICE_EXT


def main() -> str | None:
    """None when some EGL device starts, else the reason why none does."""
    if not (ctypes.util.find_library("OpenGL") or ctypes.util.find_library("GL")):
        return "neither libOpenGL nor libGL is there, one of which PyOpenGL loads"
    try:
        egl = ctypes.CDLL("libEGL.so.1")
    except OSError as error:
        return str(error)
    address, pointer = egl.eglGetProcAddress, ctypes.c_void_p
    address.restype, address.argtypes = pointer, [ctypes.c_char_p]
    if not (address(b"eglQueryDevicesEXT") and address(b"eglGetPlatformDisplayEXT")):
        return "libEGL knows no devices (EGL_EXT_device_enumeration)"
    query = ctypes.CFUNCTYPE(ctypes.c_uint, ctypes.c_int, pointer, pointer)(address(b"eglQueryDevicesEXT"))
    display_of = ctypes.CFUNCTYPE(pointer, ctypes.c_uint, pointer, pointer)(address(b"eglGetPlatformDisplayEXT"))
    egl.eglInitialize.argtypes = [pointer, pointer, pointer]

    devices, count = (pointer * 16)(), ctypes.c_int()
    query(len(devices), devices, ctypes.byref(count))
    for device in devices[: count.value]:
        display = display_of(PLATFORM_DEVICE, device, None)
        if display and egl.eglInitialize(display, None, None):
            return None
    return f"none of the {count.value} EGL devices starts"


if __name__ == "__main__":
    sys.exit(main())

"""A GigE Vision camera on loopback, a process of its own: `python fake_gv_camera.py SERIAL LOST_PER_THOUSAND`.

It is libaravis's own fake, so that the package with its viewer is not needed.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import sys
import time


def main() -> None:
    serial, lost = sys.argv[1].encode(), int(sys.argv[2])
    arv = ctypes.CDLL(ctypes.util.find_library("aravis-0.8"))
    gobject = ctypes.CDLL(ctypes.util.find_library("gobject-2.0"))
    arv.arv_gv_fake_camera_new.restype = ctypes.c_void_p
    camera = arv.arv_gv_fake_camera_new(b"127.0.0.1", serial)
    gobject.g_object_set.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_double, ctypes.c_void_p]
    gobject.g_object_set(camera, b"gvsp-lost-ratio", lost / 1000, None)
    arv.arv_gv_fake_camera_is_running.argtypes = [ctypes.c_void_p]
    print("running" if arv.arv_gv_fake_camera_is_running(camera) else "failed", flush=True)
    time.sleep(600)


if __name__ == "__main__":
    main()

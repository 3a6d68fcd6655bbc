"""Where the hub keeps pictures: content-addressed, so that the same bytes are stored once and cannot change."""

from review.frames.folder import FolderFrames, FrameStore

__all__ = ["FolderFrames", "FrameStore"]

"""Reads and writes clips: video files, folders of images, arrays."""

from hero_rt.video.arrays import to_frames
from hero_rt.video.contact_sheet import contact_sheet
from hero_rt.video.reader import Video, open_video
from hero_rt.video.source import FirstFrames, VideoSource
from hero_rt.video.writer import VideoWriter, create_video

__all__ = [
    "FirstFrames",
    "Video",
    "VideoSource",
    "VideoWriter",
    "contact_sheet",
    "create_video",
    "open_video",
    "to_frames",
]

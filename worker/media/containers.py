"""Which container a video file is, by its first bytes and never by its name.

FFmpeg also opens playlists, scripts and image sequences, which name other files and addresses; a
video that was sent in must not make it read those. So a file is opened as what its first bytes say,
with that demuxer alone, and what begins like no container is refused. Every playlist format is a
text; none of these signatures begins a text.
"""

from __future__ import annotations

from typing import Final

HEAD_BYTES: Final = 1024

# First box of an ISO base media file (mp4, mov, 3gp) or of an old QuickTime one.
_BOXES = (b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide", b"pnot", b"styp", b"moof")
_AT_START: Final = (
    (b"\x1aE\xdf\xa3", "matroska"),  # and WebM
    (b"OggS", "ogg"),
    (b"FLV\x01", "flv"),
    (b"\x30\x26\xb2\x75\x8e\x66\xcf\x11", "asf"),  # WMV
    (b"GIF87a", "gif"),
    (b"GIF89a", "gif"),
    (b"DKIF", "ivf"),
    (b"\x00\x00\x01\xba", "mpeg"),  # program stream
    (b"\x00\x00\x01\xb3", "mpegvideo"),  # the bare stream of MPEG-1 and 2
)
_TRANSPORT_SYNC = 0x47
_PLAYLIST_STARTS = (b"#EXTM3U", b"ffconcat", b"<?xml", b"<smil", b"v=0", b"[playlist]", b"file ")


def demuxer_of(head: bytes) -> str | None:
    """FFmpeg's name of the demuxer for a file that begins with `head`; None: no container.

    Args:
        head: the first `HEAD_BYTES` bytes, or the whole of a smaller file.
    """
    if head[4:8] in _BOXES:
        return "mov"
    if head[:4] == b"RIFF" and head[8:12] in (b"AVI ", b"AVIX"):
        return "avi"
    for start, demuxer in _AT_START:
        if head.startswith(start):
            return demuxer
    # Packets of 188 bytes, or of 192 with a time before each (m2ts).
    for first, step in ((0, 188), (4, 192)):
        syncs = head[first::step][:4]
        if len(syncs) == 4 and all(sync == _TRANSPORT_SYNC for sync in syncs):
            return "mpegts"
    return None


def looks_like_a_playlist(head: bytes) -> bool:
    """Whether the file is one of the usual texts that name other media; for the error's words."""
    return head.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(_PLAYLIST_STARTS)

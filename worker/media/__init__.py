"""From a media file to the pixels that the vision tower takes.

A file's bytes are looked at in a process of their own (`decoder_main`); everything on this side of
`decoder` deals with names, stores and finished pixels.
"""

"""Blobs and uploads as plain files of one directory: the default store, nothing to install."""

from plugins.stores.disk.store import DiskConfig, DiskStore

__all__ = ["DiskConfig", "DiskStore"]

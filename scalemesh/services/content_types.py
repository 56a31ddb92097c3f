"""Content types by extension: one closed table, the same on every machine.

The standard library's mimetypes reads the machine's own tables, so its answers differ from host to host.
"""

from typing import Final

UNKNOWN: Final = "application/octet-stream"

#: Types whose bytes are text: they carry a charset, and compress well.
_TEXT: Final = {
    "text/html": "html htm",
    "application/xhtml+xml": "xhtml",
    "text/css": "css",
    "text/javascript": "js mjs cjs",
    "application/json": "json map jsonld geojson topojson har",
    "application/manifest+json": "webmanifest",
    "application/xml": "xml xsl xslt",
    "application/rss+xml": "rss",
    "application/atom+xml": "atom",
    "image/svg+xml": "svg",
    "text/plain": "txt text log ini conf yaml yml toml",
    "text/markdown": "md markdown",
    "text/csv": "csv",
    "text/tab-separated-values": "tsv",
    "text/calendar": "ics",
    "text/vcard": "vcf",
    "text/vtt": "vtt",
    "text/x-component": "rsc",
    "application/x-subrip": "srt",
    "application/gpx+xml": "gpx",
    "application/vnd.google-earth.kml+xml": "kml",
}

_BINARY: Final = {
    "application/wasm": "wasm",
    "application/pdf": "pdf",
    "application/postscript": "ps eps",
    "application/rtf": "rtf",
    # images
    "image/png": "png",
    "image/apng": "apng",
    "image/jpeg": "jpg jpeg jfif pjpeg",
    "image/gif": "gif",
    "image/webp": "webp",
    "image/avif": "avif",
    "image/jxl": "jxl",
    "image/heic": "heic",
    "image/x-icon": "ico cur",
    "image/bmp": "bmp",
    "image/tiff": "tif tiff",
    # fonts
    "font/woff": "woff",
    "font/woff2": "woff2",
    "font/ttf": "ttf",
    "font/otf": "otf",
    "font/collection": "ttc",
    "application/vnd.ms-fontobject": "eot",
    # sound and film
    "audio/mpeg": "mp3",
    "audio/mp4": "m4a",
    "audio/aac": "aac",
    "audio/ogg": "oga ogg opus",
    "audio/wav": "wav",
    "audio/flac": "flac",
    "audio/midi": "mid midi",
    "audio/webm": "weba",
    "video/mp4": "mp4 m4v m4s",
    "video/webm": "webm",
    "video/ogg": "ogv",
    "video/quicktime": "mov",
    "video/x-msvideo": "avi",
    "video/mp2t": "ts",
    "video/mpeg": "mpg mpeg",
    "application/vnd.apple.mpegurl": "m3u8",
    "application/dash+xml": "mpd",
    # models
    "model/gltf-binary": "glb",
    "model/gltf+json": "gltf",
    "model/stl": "stl",
    "model/obj": "obj",
    "model/vnd.usdz+zip": "usdz",
    # archives and programs
    "application/zip": "zip",
    "application/gzip": "gz tgz",
    "application/x-bzip2": "bz2",
    "application/x-xz": "xz",
    "application/zstd": "zst",
    "application/x-brotli": "br",
    "application/x-tar": "tar",
    "application/x-7z-compressed": "7z",
    "application/vnd.rar": "rar",
    "application/java-archive": "jar",
    "application/vnd.android.package-archive": "apk",
    "application/x-apple-diskimage": "dmg",
    "application/x-debian-package": "deb",
    "application/x-rpm": "rpm",
    "application/x-msdownload": "exe msi dll",
    # documents
    "application/epub+zip": "epub",
    "application/msword": "doc",
    "application/vnd.ms-excel": "xls",
    "application/vnd.ms-powerpoint": "ppt",
    "application/vnd.openxmlformats-officedocument.wordprocessingml.document": "docx",
    "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet": "xlsx",
    "application/vnd.openxmlformats-officedocument.presentationml.presentation": "pptx",
    "application/vnd.oasis.opendocument.text": "odt",
    "application/vnd.oasis.opendocument.spreadsheet": "ods",
    # data
    UNKNOWN: "bin dat data db sqlite onnx pack pagefind pf_meta pf_index pf_fragment",
}

BY_EXTENSION: Final = {
    extension: f"{kind}; charset=utf-8" if table is _TEXT else kind
    for table in (_TEXT, _BINARY)
    for kind, extensions in table.items()
    for extension in extensions.split()
}

#: Names that have no extension and whose readers insist on a type (RFC 9116, RFC 8615 and Apple's own).
BY_NAME: Final = {
    ".well-known/apple-app-site-association": "application/json; charset=utf-8",
    "apple-app-site-association": "application/json; charset=utf-8",
    ".well-known/security.txt": "text/plain; charset=utf-8",
}

HTML: Final = ("text/html", "application/xhtml+xml")  #: what the type of a page begins with
PAGE_EXTENSIONS: Final = frozenset({"html", "htm", "xhtml"})
ASSET_EXTENSIONS: Final = frozenset(BY_EXTENSION) - PAGE_EXTENSIONS


def extension_of(path: str) -> str:
    """The lower-case extension of the last part of *path*, without the dot; empty where there is none."""
    return path.rpartition("/")[2].rpartition(".")[2].lower() if "." in path.rpartition("/")[2] else ""


def content_type(path: str) -> str:
    """What *path* is served as; ``application/octet-stream`` for what the table does not know."""
    return BY_NAME.get(path) or BY_EXTENSION.get(extension_of(path), UNKNOWN)


def is_page(path: str) -> bool:
    """Whether *path* is an HTML file."""
    return extension_of(path) in PAGE_EXTENSIONS


def is_asset(path: str) -> bool:
    """Whether *path* is named like a file that a page loads: ``/app.js`` is, ``/users/jane.doe`` is not."""
    return extension_of(path) in ASSET_EXTENSIONS

"""What a value looks like: a bundle of representations by MIME type, all of them text (an image is in base64)."""

import binascii
import json
import sys

import wire

VALUE_CHARS = 8 * 1024 * 1024  # of one representation
CELL_CHARS = 32 * 1024 * 1024  # of all of one cell

TEXTS = {"text/html": "_repr_html_", "text/markdown": "_repr_markdown_", "text/latex": "_repr_latex_", "image/svg+xml": "_repr_svg_"}
IMAGES = {"image/png": "_repr_png_", "image/jpeg": "_repr_jpeg_"}


def asked(value, name):
    """What a method of the value's gives; None when it has none, refuses or fails, as its text is shown in any case."""
    method = None if isinstance(value, type) else getattr(type(value), name, None)
    if method is None:
        return None
    try:
        given = method(value)
    except Exception:
        return None
    return given[0] if isinstance(given, tuple) and given else given


def json_of(value):
    given = asked(value, "_repr_json_")
    if given is None and type(value) in (dict, list):
        given = value
    if given is None:
        return None
    try:
        return json.dumps(given, allow_nan=False)
    except Exception:
        return None  # it holds what JSON cannot say


def in_base64(raw):
    return binascii.b2a_base64(raw, newline=False).decode()


def figure_png(figure):
    import io

    file = io.BytesIO()
    figure.savefig(file, format="png", bbox_inches="tight")
    return in_base64(file.getvalue())


def is_figure(value):
    module = sys.modules.get("matplotlib.figure")
    kind = getattr(module, "Figure", None)
    return kind is not None and isinstance(value, kind)


def bundle(value):
    data = {"text/plain": repr(value)}
    if is_figure(value):
        data["image/png"] = figure_png(value)
        return data
    for mime, name in TEXTS.items():
        text = asked(value, name)
        if isinstance(text, str):
            data[mime] = text
    for mime, name in IMAGES.items():
        image = asked(value, name)
        if isinstance(image, bytes):
            data[mime] = in_base64(image)
        elif isinstance(image, str):
            data[mime] = image
    text = json_of(value)
    if text is not None:
        data["application/json"] = text
    return data


class Shown:
    """What one context shows."""

    def __init__(self, line):
        self.wire = line
        self.left = 0
        self.cut = False

    def begin(self):
        self.left, self.cut = CELL_CHARS, False

    def show(self, cell, value, result=False):
        data = bundle(value)
        if is_figure(value) and "matplotlib.pyplot" in sys.modules:
            sys.modules["matplotlib.pyplot"].close(value)  # or the end of the cell would show it again
        sizes = {}
        for mime, text in data.items():
            kept = self.fitting(mime, text)
            if kept is None:
                continue
            sizes[mime] = len(kept.encode("utf-16-le", "surrogatepass")) // 2
            at = 0
            for begin in range(0, len(kept), wire.PIECE_CHARS):
                piece = kept[begin : begin + wire.PIECE_CHARS]
                self.wire.say(cell, "mime", t=mime, o=at, d=piece)
                at += len(piece.encode("utf-16-le", "surrogatepass")) // 2
        if sizes:
            self.wire.say(cell, "show", r=result, z=sizes)

    def fitting(self, mime, text):
        """A text may be cut, anything else is whole or not there."""
        most = min(VALUE_CHARS, self.left)
        if len(text) > most:
            self.cut = True
            if mime != "text/plain":
                return None
            text = text[:most]
        self.left -= len(text)
        return text

    def figures(self, cell):
        """Every open figure of pyplot's, which are then closed: the next cell draws its own."""
        pyplot = sys.modules.get("matplotlib.pyplot")
        if pyplot is None or not hasattr(pyplot, "get_fignums"):
            return
        for number in pyplot.get_fignums():
            self.show(cell, pyplot.figure(number))

"""`read_image`: a picture's form and EXIF, and the text in it by OCR.

By Pillow (MIT-CMU) and RapidOCR (Apache-2.0) with onnxruntime (MIT); the models (Apache-2.0) come with RapidOCR. What a
picture shows besides text is left out.
"""

from aworld.tools.common import execute
from aworld.tools.common.result import Result
from aworld.tools.common.server import ToolServer


def read_image(path: str) -> Result:
    return execute.work("image", "read_image", path=path)


def add_to(server: ToolServer) -> None:
    execute.adopt_orphans()
    server.add_tool(read_image, description="Size, date, place and the text (OCR) of a picture.")


if __name__ == "__main__":
    from aworld.tools.__main__ import serve

    serve(["image"])

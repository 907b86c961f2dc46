"""`vision`: what is in a picture of the working folder, by a model that sees, which AWORLD_VISION_… names.

Pictures by pillow (MIT-CMU): upright, no side longer than AWORLD_VISION_PIXELS (2048), of several only the first.
"""

import asyncio
import base64
import io
import os

from aworld.tools.common import endpoint, opened
from aworld.tools.common.result import Result, error
from aworld.tools.common.server import ToolServer

FORMATS = ("PNG", "JPEG", "GIF", "WEBP", "BMP", "TIFF")  # none that pillow starts a program for
MOST_PIXELS = 80_000_000  # fewer than those at which pillow itself warns


async def vision(path: str, question: str = "Describe this picture, with every text in it.") -> Result:
    try:
        model = endpoint.of("vision")
        content = await asyncio.to_thread(opened.read, path)
        kind, picture = await asyncio.to_thread(prepared, content, int(os.environ.get("AWORLD_VISION_PIXELS", "2048")))
        url = f"data:{kind};base64,{base64.b64encode(picture).decode()}"
        answer = await model.chat(
            [{"type": "text", "text": question}, {"type": "image_url", "image_url": {"url": url}}]
        )
    except endpoint.EndpointError as reason:
        return endpoint.failed(reason)
    except opened.NoFileError as reason:
        return error(str(reason))
    except ValueError as reason:
        return error(f"{path[:100]!r} cannot be shown: {reason}")
    return endpoint.told(model, answer)


def prepared(content: bytes, longest: int) -> tuple[str, bytes]:
    """A picture as endpoints take it: its media type, and a PNG, or a JPEG of what was one.

    Args:
        longest: pixels that a side may have.

    Raises:
        ValueError: it is none, damaged, or has more than 80 million pixels.
    """
    from PIL import Image, ImageOps, UnidentifiedImageError

    try:
        with Image.open(io.BytesIO(content), formats=FORMATS) as opened_image:
            kind = "JPEG" if opened_image.format == "JPEG" else "PNG"
            image: Image.Image = opened_image
            if image.width * image.height > MOST_PIXELS:
                raise ValueError(f"it has more than {MOST_PIXELS} pixels; make it smaller with python")
            if image.mode.startswith("I;16"):  # pillow would make all but the darkest white
                image = image.point(lambda value: value * (1 / 256)).convert("L")
            image = ImageOps.exif_transpose(image)
            image = image.convert("RGBA" if image.has_transparency_data else "RGB")
            image.thumbnail((longest, longest))
            image.save(result := io.BytesIO(), kind, quality=90)
    except UnidentifiedImageError:
        raise ValueError(f"it is none of {', '.join(FORMATS)}") from None
    except Image.DecompressionBombError:
        raise ValueError(f"it has more than {MOST_PIXELS} pixels; make it smaller with python") from None
    except ValueError:
        raise
    except Exception as reason:  # whatever the library makes of a damaged file
        raise ValueError(f"it is damaged: {type(reason).__name__}: {str(reason)[:200]}") from None
    return f"image/{kind.lower()}", result.getvalue()


def add_to(server: ToolServer) -> None:
    server.add_tool(vision, description="Ask about a picture file.")


if __name__ == "__main__":
    from aworld.tools.__main__ import serve

    serve(["vision"])

"""Speech as text, by PyAV (BSD-3) and pocketsphinx (BSD-2) with the English model that is part of it."""

import sys
import time
from collections.abc import Iterator
from itertools import chain
from typing import Any

RATE = 16_000  # samples a second, of two bytes, one channel: what the model heard in training
LONGEST = 20.0  # seconds; speech without a pause is cut there
SILENCE = bytes(RATE)  # half a second, after which speech counts as ended


def transcribe(path: str, start: float, seconds: float) -> Iterator[str]:
    """The form of the sound, then a line for each stretch of speech, for about so many seconds of work."""
    import av
    from pocketsphinx import Decoder, Endpointer

    until = time.monotonic() + seconds
    with av.open(path) as container:
        if not container.streams.audio:
            sys.exit(f"{path} has no sound")
        stream = container.streams.audio[0]
        length = (container.duration or 0) / av.time_base
        yield f"{stream.codec_context.name}, {stream.rate} Hz, channels: {stream.channels}, {length:.1f} s"
        ears, decoder = Endpointer(sample_rate=RATE), Decoder(samprate=RATE, loglevel="FATAL")
        at, begun, silent = start, -1.0, True
        for piece in _pieces(_samples(container, stream, start), ears.frame_bytes):
            speech = ears.process(piece)
            at += ears.frame_length
            if speech is not None:
                if begun < 0:
                    begun, silent = at, False
                    decoder.start_utt()
                decoder.process_raw(speech)
            late = time.monotonic() > until
            if begun >= 0 and (late or not ears.in_speech or at - begun > LONGEST):
                decoder.end_utt()
                heard = decoder.hyp()
                yield f"{begun:.1f} s: {heard.hypstr if heard else '(not understood)'}"
                begun = -1.0
            if late:
                yield f"[heard as far as {at:.1f} s; go on with start={at:.1f}]"
                return
        if silent:
            yield "(no speech heard)"


def _samples(container: Any, stream: Any, start: float) -> Iterator[bytes]:
    import av

    resampler = av.AudioResampler(format="s16", layout="mono", rate=RATE)
    if start > 0:
        container.seek(int(start / stream.time_base), stream=stream)
    for frame in chain(container.decode(stream), [None]):  # None: what the resampler still holds
        if frame is None or frame.time is None or frame.time >= start:
            yield from (part.to_ndarray().tobytes() for part in resampler.resample(frame))
    yield SILENCE


def _pieces(samples: Iterator[bytes], size: int) -> Iterator[bytes]:
    held = b""
    for more in samples:
        held += more
        whole = len(held) - len(held) % size
        yield from (held[at : at + size] for at in range(0, whole, size))
        held = held[whole:]

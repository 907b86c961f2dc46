"""`chess_position` and `chess_engine`: the rules of chess, and the best moves by an engine.

By python-chess (GPL-3: not among what aworld itself needs, `pip install chess`) and Stockfish (GPL-3), a program of its
own: AWORLD_STOCKFISH, else `stockfish` on PATH or in /usr/games.
"""

from aworld.tools.common import execute
from aworld.tools.common.result import Result
from aworld.tools.common.server import ToolServer

PART = 0.5  # of the time of a call, for thinking


def chess_position(fen: str, moves: str = "") -> Result:
    return execute.work("chess", "chess_position", fen=fen, moves=moves)


def chess_engine(fen: str, moves: str = "", seconds: float = 1) -> Result:
    limit = PART * execute.seconds_of("chess_engine")
    return execute.work("chess", "chess_engine", fen=fen, moves=moves, seconds=min(max(seconds, 0.1), limit))


def add_to(server: ToolServer) -> None:
    execute.adopt_orphans()
    server.add_tool(
        chess_position,
        description="A chess position after moves (SAN or UCI): FEN, board, state, legal moves.",
    )
    server.add_tool(
        chess_engine,
        description="The best moves of a chess position after moves, with values.",
    )


if __name__ == "__main__":
    from aworld.tools.__main__ import serve

    serve(["chess"])

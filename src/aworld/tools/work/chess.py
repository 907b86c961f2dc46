"""Positions by python-chess (GPL-3), and what Stockfish (GPL-3), a program of its own, thinks of them."""

import os
import shutil
import sys
from collections.abc import Iterator
from typing import Any

PLACES = ("stockfish", "/usr/games/stockfish")  # Debian's own place is not on PATH in a sandbox
LINES = 3
SHOWN = 8  # moves of a line


def chess_position(fen: str, moves: str) -> Iterator[str]:
    """The position after the moves: FEN, state, board and legal moves."""
    board = _board(fen, moves)
    yield board.fen()
    yield _state(board)
    yield str(board)
    legal = sorted((board.san(move), move.uci()) for move in board.legal_moves)
    if legal:
        yield f"{len(legal)} legal moves: " + ", ".join(f"{san} {uci}" for san, uci in legal)


def chess_engine(fen: str, moves: str, seconds: float) -> Iterator[str]:
    """The best moves, each with its value in pawns and how the game goes on."""
    from chess import engine

    board = _board(fen, moves)
    if board.is_game_over():
        sys.exit(_state(board))
    program = next(filter(None, map(shutil.which, (os.environ.get("AWORLD_STOCKFISH", ""), *PLACES))), None)
    if program is None:
        sys.exit("there is no chess engine here: install stockfish, or set AWORLD_STOCKFISH to one")
    with engine.SimpleEngine.popen_uci(program) as player:
        found = player.analyse(board, engine.Limit(time=seconds), multipv=LINES)
    for rank, line in enumerate(found, 1):
        pv = line["pv"]
        yield f"{rank}. {board.san(pv[0])} ({pv[0].uci()}): {_value(line['score'])}: {board.variation_san(pv[:SHOWN])}"


def _board(fen: str, moves: str) -> Any:
    import chess

    try:
        board = chess.Board(fen) if fen not in ("", "startpos") else chess.Board()
    except ValueError as reason:
        sys.exit(f"not a FEN: {reason}")
    if wrong := board.status():
        sys.exit(f"no position of a game: {str(wrong.name).lower().replace('_', ' ').replace('|', ', ')}")
    for word in moves.replace(",", " ").split():
        move = word.rpartition(".")[2].rstrip("!?")  # of 1.e4! only e4; of 1. nothing
        try:
            if move:
                board.push(_move(board, move))
        except ValueError:
            sys.exit(f"{move} is not a legal move in {board.fen()}")
    return board


def _move(board: Any, word: str) -> Any:
    try:
        return board.parse_san(word)
    except ValueError:
        return board.parse_uci(word)


def _state(board: Any) -> str:
    import chess

    side = chess.COLOR_NAMES[board.turn]
    if ended := board.outcome():
        winner = "draw" if ended.winner is None else f"{chess.COLOR_NAMES[ended.winner]} has won"
        return f"{ended.termination.name.lower().replace('_', ' ')}: {winner}"
    return f"{side} to move" + (", in check" if board.is_check() else "")


def _value(score: Any) -> str:
    white = score.white()
    if white.is_mate():
        side = "white" if white.mate() > 0 else "black"
        return f"{side} mates in {abs(white.mate())}"
    return f"{white.score() / 100:+.2f} for white"

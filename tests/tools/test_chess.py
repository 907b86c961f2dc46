"""The rules against the published counts of positions, the engine against known mates."""

from pathlib import Path

import pytest
from one_episode import play

from aworld.environments.sandbox import Sandbox

pytestmark = pytest.mark.tools
# positions with their legal moves, from the perft results of the chess programming wiki
COUNTED = {
    "": 20,
    "r3k2r/p1ppqpb1/bn2pnp1/3PN3/1p2P3/2N2Q1p/PPPBBPPP/R3K2R w KQkq - 0 1": 48,
    "8/2p5/3p4/KP5r/1R3p1k/8/4P1P1/8 w - - 0 1": 14,
    "r3k2r/Pppp1ppp/1b3nbN/nP6/BBP1P3/q4N2/Pp1P2PP/R2Q1RK1 w kq - 0 1": 6,
    "rnbq1k1r/pp1Pbppp/2p5/8/2B5/8/PPP1NnPP/RNBQK2R w KQ - 1 8": 44,
}
BACK_RANK = "6k1/5ppp/8/8/8/8/5PPP/R5K1 w - - 0 1"
# the queen's sacrifice and the smothered mate, one of the oldest of problems (Lucena)
SMOTHERED = "5r1k/6pp/7N/8/2Q5/8/6PP/6K1 w - - 0 1"

SIMPLE = """#!/bin/sh
while read -r word rest; do
    case $word in
    uci) echo "option name MultiPV type spin default 1 min 1 max 500"; echo uciok ;;
    isready) echo readyok ;;
    go) echo "info depth 1 multipv 1 score cp 12 pv h2h3 h7h6"; echo "bestmove h2h3" ;;
    quit) exit ;;
    esac
done
"""


@pytest.fixture
def files(tmp_path: Path) -> Path:
    (tmp_path / "files").mkdir()
    return tmp_path / "files"


def test_the_legal_moves_are_those_that_others_count(files: Path) -> None:
    calls = [("chess_position", {"fen": fen}) for fen in COUNTED]
    seen = [one.text.splitlines()[-1] for one in play("chess", files, *calls, result_chars=5000)]
    assert [line.partition(" ")[0] for line in seen] == [str(count) for count in COUNTED.values()]
    assert all(line.count(", ") + 1 == count for line, count in zip(seen, COUNTED.values(), strict=True))
    assert "Nf3 g1f3" in seen[0]


def test_moves_lead_to_a_state(files: Path) -> None:
    cases = [
        ("", "1. f3 e5 2. g4 Qh4#", "checkmate: black has won"),
        ("", "e2e4, e7e5", "white to move"),
        ("", "1.e4! f5?? 2.Qh5+", "black to move, in check"),
        ("7k/5Q2/6K1/8/8/8/8/8 b - - 0 1", "", "stalemate: draw"),
        ("8/8/4k3/8/8/4K3/8/8 w - - 0 1", "", "insufficient material: draw"),
    ]
    calls = [("chess_position", {"fen": fen, "moves": moves}) for fen, moves, _ in cases]
    assert [one.text.splitlines()[1] for one in play("chess", files, *calls)] == [state for _, _, state in cases]


def test_a_position_is_written_out(files: Path) -> None:
    (seen,) = play("chess", files, ("chess_position", {"fen": "startpos", "moves": "e4 c5 Nf3"}))
    shown = seen.text.splitlines()
    assert shown[0] == "rnbqkbnr/pp1ppppp/8/2p5/4P3/5N2/PPPP1PPP/RNBQKB1R b KQkq - 1 2"
    assert shown[2] == "r n b q k b n r" and shown[6] == ". . . . P . . ."


def test_what_is_not_chess_is_one_line(files: Path) -> None:
    cases = [
        ("nonsense", "", "not a FEN: "),
        ("8/8/8/8/8/8/8/8 w - - 0 1", "", "no position of a game: no white king, no black king, empty"),
        ("", "e4 e4", "e4 is not a legal move in rnbqkbnr/pppppppp/8/8/4P3/8/PPPP1PPP/RNBQKBNR b KQkq - 0 1"),
        ("", "e5", "e5 is not a legal move in "),
    ]
    calls = [("chess_engine", {"fen": fen, "moves": moves}) for fen, moves, _ in cases]
    for seen, (_, _, told) in zip(play("chess", files, *calls), cases, strict=True):
        assert seen.is_error and seen.text.startswith(told) and "\n" not in seen.text


@pytest.fixture
def engine() -> None:
    if not Path("/usr/games/stockfish").exists():
        pytest.skip("no Stockfish here: apt install stockfish")


@pytest.mark.usefixtures("engine")
def test_the_engine_finds_known_mates(sandbox: Sandbox, files: Path) -> None:
    calls = [("chess_engine", {"fen": fen, "seconds": 0.5}) for fen in (BACK_RANK, SMOTHERED)]
    mated = ("chess_engine", {"fen": BACK_RANK, "moves": "Ra8#"})
    first, second, over = play("chess", files, *calls, mated, sandbox=sandbox)
    assert first.text.startswith("1. Ra8# (a1a8): white mates in 1: 1. Ra8#\n2. ")
    assert second.text.startswith("1. Qg8+ (c4g8): white mates in 2: 1. Qg8+ Rxg8 2. Nf7#\n2. ")
    assert over.is_error and over.text == "checkmate: white has won"


def test_an_engine_of_ones_own(files: Path, monkeypatch: pytest.MonkeyPatch, sandbox: Sandbox) -> None:
    """Any that speaks UCI: one that knows a single move, and that not the best."""
    program = files.with_name("engine")
    program.write_text(SIMPLE)
    program.chmod(0o755)
    monkeypatch.setenv("AWORLD_STOCKFISH", str(program))
    (seen,) = play("chess", files, ("chess_engine", {"fen": BACK_RANK}), sandbox=sandbox)
    assert seen.text == "1. h3 (h2h3): +0.12 for white: 1. h3 h6"

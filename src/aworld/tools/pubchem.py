"""`pubchem`: what PubChem knows of a compound, by name, CID, SMILES or formula, from its PUG REST API.

AWORLD_PUBCHEM_URL (https://pubchem.ncbi.nlm.nih.gov/rest/pug) is the API's address.
"""

import json
import os
from urllib.parse import quote

from aworld.tools.common import internet
from aworld.tools.common.result import Result, error, text
from aworld.tools.common.server import ToolServer

API = "https://pubchem.ncbi.nlm.nih.gov/rest/pug"
BY = ("name", "cid", "smiles", "fastformula")
PROPERTIES = (
    "Title,IUPACName,MolecularFormula,MolecularWeight,ConnectivitySMILES,InChIKey,XLogP,TPSA,Charge,"
    "HBondDonorCount,HBondAcceptorCount,RotatableBondCount,HeavyAtomCount"
)
MOST = 5


async def pubchem(compound: str, by: str = "name") -> Result:
    if by not in BY:
        return error(f"by={by!r}: one of {', '.join(BY)}")
    api = os.environ.get("AWORLD_PUBCHEM_URL", API)
    try:
        page = await internet.get(
            f"{api}/compound/{by}/{quote(compound, safe='')}/property/{PROPERTIES}/JSON", own=True
        )
        rows = json.loads(page.body)["PropertyTable"]["Properties"]
    except internet.WebError as reason:
        return error(f"no compound {compound!r}") if "status 404" in str(reason) else internet.failed(reason)
    except (ValueError, KeyError, TypeError) as reason:
        return error(f"PubChem's answer cannot be read: {type(reason).__name__}: {reason}")
    more = [f"… and {len(rows) - MOST} more"] if len(rows) > MOST else []
    shown = ["\n".join(f"{key}: {value}" for key, value in row.items()) for row in rows[:MOST]]
    return text("\n\n".join([*shown, *more]))


def add_to(server: ToolServer) -> None:
    server.add_tool(pubchem, description=f"Properties of a compound, by {', '.join(BY)}.")


if __name__ == "__main__":
    from aworld.tools.__main__ import serve

    serve(["pubchem"])

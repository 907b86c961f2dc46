"""Fetch a benchmark where there is internet, such as a login node, for jobs that have none."""

from pathlib import Path

import huggingface_hub
from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, OfflineModeIsEnabled

from aworld import config as schema
from aworld.errors import InfrastructureError, InputError
from aworld.tasks.gaia import SPLITS, GaiaTasks

DATASET = "gaia-benchmark/GAIA"
GATE = (
    f"GAIA is gated: accept its terms on the page of the dataset {DATASET} with your Hugging Face account, make a "
    "token to read, and set it as HF_TOKEN; you may not pass the copy on"
)


def prefetch_gaia(folder: Path) -> dict[str, int]:
    """Fetch the whole dataset; what is there already is kept. Returns the number of tasks of each split.

    Raises:
        InputError: there is no token, or it does not open the gate.
        InfrastructureError: the dataset cannot be reached from here.
    """
    if huggingface_hub.get_token() is None:
        raise InputError(GATE)
    try:
        huggingface_hub.snapshot_download(DATASET, repo_type="dataset", local_dir=folder, token=True)
    except GatedRepoError:
        raise InputError(GATE) from None
    except HfHubHTTPError as reason:
        raise InputError(f"{GATE} (the hub says: {str(reason).splitlines()[0]})") from None
    except (OSError, OfflineModeIsEnabled) as reason:
        said = str(reason).splitlines()[0]
        raise InfrastructureError(f"{DATASET} cannot be reached from here ({said}); try a login node") from None
    return {
        split: len(list(GaiaTasks(schema.Tasks(source="gaia", path=str(folder), split=split)).tasks("held_out")))
        for split in SPLITS
    }

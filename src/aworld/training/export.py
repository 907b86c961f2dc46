"""Export of the trainer's weights as a policy of the run. Each rank gathers and writes its own share.

A stage of the pipeline shares its layers out among all its ranks, replicas too, in whole HF tensors by their bytes. No
weight leaves its stage, and each is gathered once, by the rank that writes it.
"""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
from megatron.core import parallel_state
from megatron.core.models.gpt import GPTModel
from transformers import AutoConfig

from aworld.policies import weights
from aworld.policies.folder import Deltas, contents
from aworld.policies.weights import Tensor
from aworld.policies.writing import Writer, Written
from aworld.publish import MARK, Sums, is_complete
from aworld.rundir import RunDir
from aworld.training.collectives import broadcast, is_rank_zero, on_rank_zero, publish_collectively
from aworld.training.conversion import Bridge

SHARE_BYTES = 256 << 20  # a rank joins the writers where its share would be as large
FILE_BYTES = 5 << 30
_DTYPES = {torch.bfloat16: "BF16", torch.float32: "F32"}


@dataclass(frozen=True)
class Parameter:
    """A parameter of this stage: its name in the whole model, this rank's part, and the HF tensors of the whole."""

    name: str
    part: torch.Tensor
    tensors: list[Tensor]

    @property
    def nbytes(self) -> int:
        return sum(tensor.nbytes for tensor in self.tensors)


@dataclass
class File:
    """A file of a stage: the rank that writes it, by its number within the stage, and its parameters."""

    writer: int
    parameters: list[Parameter]

    @property
    def nbytes(self) -> int:
        return sum(parameter.nbytes for parameter in self.parameters)


class Export:
    """The weights as files of an HF folder. All ranks call every method.

    Attributes:
        tensors: the names of the tensors in each file of all stages, by the file's name.
    """

    def __init__(self, model: GPTModel, base: Path):
        self._bridge = Bridge(AutoConfig.from_pretrained(base), model.config)
        tensor, replicas = parallel_state.get_tensor_model_parallel_world_size(), _replicas()
        self._parameters = self._of_stage(model)
        self._files = _files(self._parameters, tensor * replicas)
        stages: list[list[list[str]]] = [[] for _ in range(parallel_state.get_pipeline_model_parallel_world_size())]
        own = [[tensor.name for parameter in file.parameters for tensor in parameter.tensors] for file in self._files]
        dist.all_gather_object(stages, own, parallel_state.get_pipeline_model_parallel_group())
        every = [names for stage in stages for names in stage]
        titles = [f"model-{at:05d}-of-{len(every):05d}.safetensors" for at in range(1, len(every) + 1)]
        self.tensors = dict(zip(titles if len(every) > 1 else [weights.ONLY], every, strict=True))
        first = sum(map(len, stages[: parallel_state.get_pipeline_model_parallel_rank()]))
        self._names = list(self.tensors)[first : first + len(own)]

    def files(self) -> Iterator[tuple[str, np.ndarray]]:
        """The files that this rank writes, one at a time: name and bytes (uint8). Each rank takes all of its own."""
        tensor = parallel_state.get_tensor_model_parallel_world_size()
        replica, rank = _replica(), parallel_state.get_tensor_model_parallel_rank()
        file_of = {id(parameter): at for at, file in enumerate(self._files) for parameter in file.parameters}
        data, end = np.empty(0, np.uint8), 0
        for parameter in self._parameters:
            at = file_of[id(parameter)]
            file = self._files[at]
            if file.writer // tensor != replica:
                continue
            whole = self._gather(parameter, file.writer % tensor)
            if file.writer % tensor != rank:
                continue
            if parameter is file.parameters[0]:
                head = weights.header([tensor for parameter in file.parameters for tensor in parameter.tensors])
                data, end = np.empty(len(head) + file.nbytes, np.uint8), len(head)
                data[:end] = np.frombuffer(head, np.uint8)
            for values in self._bridge._weight_to_hf_format(parameter.name, whole)[1]:
                begin, end = end, end + values.nbytes
                torch.from_numpy(data[begin:end]).copy_(values.contiguous().view(-1).view(torch.uint8))
            if parameter is file.parameters[-1]:
                yield self._names[at], data

    def _of_stage(self, model: GPTModel) -> list[Parameter]:
        names = self._bridge._weight_name_mapping_mcore_local_to_global(model, consider_ep=False)
        found = []
        for local, part in model.named_parameters():
            name = names[local]
            if name == "output_layer.weight" and self._bridge.hf_config.tie_word_embeddings:
                continue  # the last stage's copy of the embeddings
            whole = self._whole(name, part, [part.detach().to("meta")] * _split_of(part))
            hf = zip(*self._bridge._weight_to_hf_format(name, whole), strict=True)
            found.append(Parameter(name, part, [Tensor(key, _DTYPES[t.dtype], tuple(t.shape)) for key, t in hf]))
        return found

    def _gather(self, parameter: Parameter, writer: int) -> torch.Tensor:
        """The whole parameter on the tensor rank that writes it; elsewhere the rank's part."""
        part = parameter.part.detach()
        if _split_of(parameter.part) == 1:
            return part
        group = parallel_state.get_tensor_model_parallel_group()
        is_writer = parallel_state.get_tensor_model_parallel_rank() == writer
        parts = [torch.empty_like(part) for _ in range(dist.get_world_size(group))] if is_writer else None
        dist.gather(part.contiguous(), parts, dist.get_global_rank(group, writer), group)
        return self._whole(parameter.name, parameter.part, parts) if parts else part

    def _whole(self, name: str, part: torch.Tensor, parts: list[torch.Tensor]) -> torch.Tensor:
        return self._bridge._weight_merge_across_tp(name, parts, part) if len(parts) > 1 else parts[0]


def _split_of(part: torch.Tensor) -> int:
    """Among how many tensor ranks a parameter is split."""
    is_split = getattr(part, "tensor_model_parallel", False)
    return parallel_state.get_tensor_model_parallel_world_size() if is_split else 1


def _replicas() -> int:
    return parallel_state.get_data_parallel_world_size(with_context_parallel=True)


def _replica() -> int:
    return parallel_state.get_data_parallel_rank(with_context_parallel=True)


def _files(parameters: list[Parameter], ranks: int) -> list[File]:
    """The files of a stage, in the order of their writers."""
    sizes = [parameter.nbytes for parameter in parameters]
    writers = weights.share(sizes, min(ranks, max(1, sum(sizes) // SHARE_BYTES)))
    files: list[File] = []
    for writer in range(max(writers) + 1):
        own = [parameter for parameter, its in zip(parameters, writers, strict=True) if its == writer]
        for parameter in own:
            if not files or files[-1].writer != writer or files[-1].nbytes + parameter.nbytes > FILE_BYTES:
                files.append(File(writer, []))
            files[-1].parameters.append(parameter)
    return files


def publish(model: GPTModel, run: RunDir, version: int, writer: Writer, full_every: int) -> None:
    """Publish the weights as a policy of the run, unless it is complete already. All ranks call.

    Args:
        writer: of this rank, for all policies; it keeps what it wrote last.
        full_every: every so many versions all files are whole; so are those of a rank without the last values.
    """
    folder = run.policy(version)
    if on_rank_zero(lambda: is_complete(folder)):
        if full_every > 1:
            writer.recall(version, Export(model, run.base).files(), on_rank_zero(lambda: contents(folder)))
        return
    base = on_rank_zero(lambda: version - 1 if version % full_every and is_complete(run.policy(version - 1)) else None)

    def write(out: Path | None) -> Sums | None:
        return export_hf(model, run.base, broadcast(out), writer, version, base)

    publish_collectively(folder, write)


def export_hf(
    model: GPTModel, folder: Path, out: Path, writer: Writer, version: int = 0, base: int | None = None
) -> Sums | None:
    """Write an HF folder that vLLM can serve, or deltas to `base`. All ranks call.

    Args:
        folder: all other files than the weights are copied from there: config, tokenizer, chat template, generation
            config.
        out: an empty folder.

    Returns:
        On rank 0 the files that were written and made durable; elsewhere None.
    """
    out.mkdir(exist_ok=True)  # a node may not see yet what another one made
    export = Export(model, folder)
    written = writer.write(out, version, export.files(), base)
    every: list[Written] | None = [Written()] * dist.get_world_size() if is_rank_zero() else None
    dist.gather_object(written, every)
    if every is None:
        return None
    for file in folder.iterdir():
        if file.is_file() and ".safetensors" not in file.suffixes and file.suffix != ".bin" and file.name != MARK:
            shutil.copyfile(file, out / file.name)
    if len(export.tensors) > 1:
        weights.write_index(out / weights.INDEX, export.tensors)
    files = {name: sums for each in every for name, sums in each.files.items()}
    made = {name: sums for each in every for name, sums in each.made.items()}
    if base is not None and made:
        Deltas(base, made).write(out)
    return files

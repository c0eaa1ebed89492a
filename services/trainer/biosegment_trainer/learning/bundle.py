"""A model version as a MONAI bundle: a folder that MONAI's own tools open, and that we read without running
any of it.
"""

from __future__ import annotations

import json
import pickle
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, Final

import torch

from biosegment.errors import InvalidArgument, NotFound
from biosegment_trainer.learning.bundle_text import (
    BundleFacts,
    inference_config,
    licence_text,
    metadata_of,
    readme_text,
    seams_text,
    terms_text,
)
from biosegment_trainer.learning.network import (
    LabelClass,
    NetworkConfig,
    NetworkModel,
    Weights,
    require_classes,
)

METADATA: Final = "configs/metadata.json"
INFERENCE: Final = "configs/inference.json"
WEIGHTS: Final = "models/model.pt"
README: Final = "docs/README.md"
TERMS: Final = "docs/data_license.txt"
LICENCE: Final = "LICENSE"
_WRAPPERS: Final = ("model", "state_dict", "model_state_dict", "network", "net", "weights")
_MAX_DEPTH: Final = 4
_MAX_PLACES: Final = 1000
_MAX_KEYS: Final = 10
_SAVE: Final = "save `net.state_dict()` with torch.save, or as safetensors, and import again"
_CONTROL: Final = re.compile(r"\x1b\[[0-9;]*m|[^ -~]")


@dataclass(frozen=True, slots=True)
class ModelLineage:
    """How a model came about.

    Attributes:
        parent: Name of the parent model; empty for none.
        annotations: Ids of the annotation records that it was trained on.
        configuration: The training configuration, as plain JSON values.
        metrics: The training metrics, as plain JSON values.
    """

    parent: str = ""
    annotations: tuple[str, ...] = ()
    configuration: Mapping[str, Any] = field(default_factory=dict)
    metrics: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ModelBundle:
    """What a bundle holds.

    Attributes:
        name: Of the model, for people.
        version: Like 1.0.0.
        model: Network, classes and weights.
        working_resolution_nm: Pixel size in plane that the network was trained at.
        lineage: Where it comes from.
        data_license: Terms of the data that it was trained on, the parents' included, divided by `; `; empty
            when they are not known.
        about: Fields of the metadata that replace ours: description, authors, references and the like.
        texts: Files of a foreign bundle that are kept as they are: its README, licence and data licence.
    """

    name: str
    version: str
    model: NetworkModel
    working_resolution_nm: float
    lineage: ModelLineage = ModelLineage()
    data_license: str = ""
    about: Mapping[str, Any] = field(default_factory=dict)
    texts: Mapping[str, str] = field(default_factory=dict)


def joined_terms(*terms: str) -> str:
    """The terms of several data sets or parents, each once: all of them bind."""
    single = (part.strip() for one in terms for part in one.split(";"))
    return "; ".join(dict.fromkeys(part for part in single if part))


def write_bundle(bundle: ModelBundle, folder: Path) -> None:
    """Write `folder`, which may exist; weights last, so that a bundle with weights is whole.

    Args:
        bundle: What to write.
        folder: Becomes the bundle's root.
    """
    for name in ("configs", "models", "docs"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    facts = facts_of(bundle)
    _write_json(folder / METADATA, metadata_of(facts) | dict(bundle.about) | _own(bundle))
    _write_json(folder / INFERENCE, inference_config(bundle.model, facts))
    texts = {
        README: readme_text(facts),
        LICENCE: licence_text(facts),
        TERMS: terms_text(facts),
    } | {name: text for name, text in bundle.texts.items() if name in (README, LICENCE, TERMS)}
    seams = seams_text(facts.network)
    # A stranger's text does not know how we predict.
    if seams not in texts[README]:
        texts[README] = f"{texts[README].rstrip()}\n\n{seams}\n"
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8")
    # A plain dict: the same weights make the same file, wherever they come from.
    torch.save({name: tensor.detach() for name, tensor in bundle.model.weights.items()}, folder / WEIGHTS)


def facts_of(bundle: ModelBundle) -> BundleFacts:
    """What the texts of a bundle are made of."""
    return BundleFacts(
        name=bundle.name,
        version=bundle.version,
        network=bundle.model.network,
        classes=tuple(c.name for c in bundle.model.classes),
        working_resolution_nm=bundle.working_resolution_nm,
        parent=bundle.lineage.parent,
        annotation_count=len(bundle.lineage.annotations),
        data_license=bundle.data_license,
    )


def _own(bundle: ModelBundle) -> dict[str, Any]:
    """What only BioSegment reads."""
    lineage = bundle.lineage
    return {
        "name": bundle.name,
        "version": bundle.version,
        "biosegment": {
            "working_resolution_nm": bundle.working_resolution_nm,
            "normalisation": "mean 0 and deviation 1 of the whole slice, cut at 5 deviations",
            "input_slices": bundle.model.network.input_slices,
            "class_values": {c.name: c.value for c in bundle.model.classes},
            "data_license": bundle.data_license,
            "lineage": {
                "parent": lineage.parent,
                "annotations": list(lineage.annotations),
                "configuration": dict(lineage.configuration),
                "metrics": dict(lineage.metrics),
            },
        },
    }


def is_own(metadata: Mapping[str, Any]) -> bool:
    """Whether `read_bundle` reads a bundle with such metadata: we, or somebody for us, wrote it."""
    own = metadata.get("biosegment")
    return isinstance(own, dict) and "class_values" in own


def read_bundle(folder: Path) -> ModelBundle:
    """Read a bundle that we wrote, of this release or an older one; no code and no `$` expression in it is
    run.

    Raises:
        NotFound: BUNDLE_FILE_MISSING.
        InvalidArgument: BAD_BUNDLE, NETWORK_NOT_ALLOWED, BAD_WEIGHTS, NO_CLASSES, DUPLICATE_CLASS.
    """
    metadata, inference = read_json(folder / METADATA), read_json(folder / INFERENCE)
    definition = inference.get("network_def")
    if not isinstance(definition, dict):
        raise InvalidArgument(
            "BAD_BUNDLE", f"{folder / INFERENCE} has no network_def; it must name the network"
        )
    network, class_count = NetworkConfig.from_network_def(definition)
    try:
        own, classes = metadata["biosegment"], _classes(metadata)
        lineage = own.get("lineage", {})
        bundle = ModelBundle(
            name=str(metadata["name"]),
            version=str(metadata["version"]),
            model=NetworkModel(network, classes, read_weights(folder / WEIGHTS)),
            working_resolution_nm=float(own["working_resolution_nm"]),
            lineage=ModelLineage(
                str(lineage.get("parent", "")),
                tuple(str(item) for item in lineage.get("annotations", ())),
                dict(lineage.get("configuration", {})),
                dict(lineage.get("metrics", {})),
            ),
            data_license=str(own.get("data_license", "")),
        )
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise InvalidArgument("BAD_BUNDLE", f"{folder / METADATA} cannot be read: {error!r}") from error
    if len(classes) != class_count:
        raise InvalidArgument(
            "BAD_BUNDLE", f"{class_count} output classes but {len(classes)} names in {folder}"
        )
    if not 0 < bundle.working_resolution_nm < 1e6:
        raise InvalidArgument("BAD_BUNDLE", f"a pixel of {bundle.working_resolution_nm} nm cannot be")
    bundle.model.build()
    return bundle


def _classes(metadata: Mapping[str, Any]) -> tuple[LabelClass, ...]:
    names = metadata["network_data_format"]["outputs"]["pred"]["channel_def"]
    values = metadata["biosegment"]["class_values"]
    channels = sorted((int(channel), str(name)) for channel, name in names.items())
    found = [LabelClass(int(values[name]), name) for channel, name in channels if channel > 0]
    # A pretrained model has none.
    return require_classes(found) if found else ()


def read_weights(path: Path) -> Weights:
    """Tensors by name from a file that torch wrote; nothing in it is executed.

    What trainers wrap weights in, as `{"model": ...}` or `{"checkpoint": {"state_dict": ...}}`, is looked through.

    Raises:
        NotFound: BUNDLE_FILE_MISSING.
        InvalidArgument: BAD_WEIGHTS.
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise NotFound(
            "BUNDLE_FILE_MISSING", f"{path} is missing; a bundle needs its weights there"
        ) from error
    # Damaged files make the reader fail in many ways.
    except Exception as error:
        raise InvalidArgument("BAD_WEIGHTS", f"{path} {_why_unreadable(error)}") from error
    return checked_weights(_state_dict(content, str(path)), str(path))


def _why_unreadable(error: Exception) -> str:
    """Torch's own words are about its options, which nobody has here."""
    text = str(error)
    if "TorchScript" in text:
        return f"is a TorchScript archive, which is code; {_SAVE}"
    if isinstance(error, pickle.UnpicklingError):
        found = re.search(r"GLOBAL ([\w.]{1,100})", text)
        held = f"holds a pickled object ({found[1]})" if found else "is a pickle of something else"
        return f"{held}, not a state dict; {_SAVE}"
    shown = " ".join(_CONTROL.sub(" ", text).split())
    return f"cannot be read, it may be damaged: {type(error).__name__}: {shown[:200]}"


def _state_dict(content: object, where: str) -> Mapping[Any, Any]:
    """The one state dict in what a trainer saved; InvalidArgument BAD_WEIGHTS for none, or for several."""
    found = _shallowest(content) if isinstance(content, Mapping) else []
    if len(found) == 1:
        return found[0]
    held = f"{len(found)} state dicts, of which one must be chosen" if found else "no state dict of tensors"
    raise InvalidArgument("BAD_WEIGHTS", f"{where} holds {held}{_keys(content)}; {_SAVE}")


def _shallowest(content: Mapping[Any, Any]) -> list[Mapping[Any, Any]]:
    """The state dicts that lie least deep; where keys that trainers use lead to one, that one: of
    `{"model": ..., "ema": ...}` the former.
    """
    level: list[tuple[tuple[int, ...], Mapping[Any, Any]]] = [((), content)]
    for depth in range(_MAX_DEPTH):
        # Metrics are tensors by name, too; networks have kernels.
        found = [each for each in level if _are_tensors(each[1], 2 if depth else 0)]
        if found:
            best = min(ranks for ranks, _ in found)
            return [weights for ranks, weights in found if ranks == best]
        inner = (
            ((*ranks, _WRAPPERS.index(key) if key in _WRAPPERS else len(_WRAPPERS)), value)
            for ranks, mapping in level
            for key, value in mapping.items()
            if isinstance(key, str) and isinstance(value, Mapping)
        )
        # A hostile file may hold very many, and itself.
        level = list(islice(inner, _MAX_PLACES))
    return []


def _are_tensors(content: Mapping[Any, Any], least_dims: int) -> bool:
    """Whether these are tensors by name, one of them with so many axes."""
    named = all(isinstance(k, str) and isinstance(v, torch.Tensor) for k, v in content.items())
    return named and any(tensor.ndim >= least_dims for tensor in content.values())


def _keys(content: object) -> str:
    """What lies at the top, for people."""
    if not isinstance(content, Mapping):
        return f" but something else ({type(content).__name__})"
    kinds = [f"{str(k)[:50]!a} ({type(v).__name__})" for k, v in islice(content.items(), _MAX_KEYS)]
    more = f" and {len(content) - len(kinds)} more" if len(content) > len(kinds) else ""
    return f"; at its top are {', '.join(kinds) or 'no entries'}{more}"


def checked_weights(content: object, where: str) -> Weights:
    """`content` as weights; InvalidArgument BAD_WEIGHTS for anything but plain, finite tensors by name."""
    if not isinstance(content, Mapping) or not _are_tensors(content, 0):
        raise InvalidArgument(
            "BAD_WEIGHTS", f"{where} is not a plain state dict of tensors{_keys(content)}; {_SAVE}"
        )
    weights = {}
    for name, tensor in content.items():
        if odd := _oddity(tensor):
            raise InvalidArgument(
                "BAD_WEIGHTS",
                f"{where}: {name[:100]} is {odd}; weights must be dense tensors of real numbers",
            )
        weights[name] = tensor.detach().float() if tensor.is_floating_point() else tensor.detach()
        # Double precision knows numbers that are infinite in single precision.
        if not torch.isfinite(weights[name]).all():
            raise InvalidArgument("BAD_WEIGHTS", f"{where}: {name[:100]} is not finite")
    return weights


def _oddity(tensor: torch.Tensor) -> str:
    """What a tensor is that no network of ours has; '' for a plain one."""
    if tensor.is_complex():
        return "complex"
    if tensor.is_quantized:
        return "quantised"
    if tensor.layout != torch.strided:
        return "sparse"
    return "without values" if tensor.device.type != "cpu" else ""


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file; NotFound BUNDLE_FILE_MISSING, InvalidArgument BAD_BUNDLE."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise NotFound("BUNDLE_FILE_MISSING", f"{path} is missing; a bundle needs it") from error
    except (ValueError, RecursionError) as error:
        raise InvalidArgument("BAD_BUNDLE", f"{path} is not JSON: {error}") from error
    if not isinstance(content, dict):
        raise InvalidArgument("BAD_BUNDLE", f"{path} must hold a JSON object")
    return content


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=4) + "\n", encoding="utf-8")

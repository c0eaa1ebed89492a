"""bioimage.io packages: made with the community's own library, which checks them, and read without it, since
a description may name code.
"""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any, Final

import numpy as np
import torch

from biosegment.errors import FailedPrecondition, InvalidArgument, NotFound
from biosegment_trainer.learning.bundle import (
    LICENCE,
    TERMS,
    ModelBundle,
    facts_of,
    read_weights,
)
from biosegment_trainer.learning.bundle_text import metadata_of
from biosegment_trainer.learning.network import LabelClass, NetworkConfig, NetworkModel, Weights
from biosegment_trainer.registry.foreign import (
    ForeignBundle,
    ForeignNetwork,
    allowed_network,
    bounded_terms,
    class_name,
    converted,
    distinct,
    read_safetensors,
    terms_of,
    texts_of,
)
from biosegment_trainer.registry.package_tensor import (
    channel_names,
    input_remarks,
    output_remarks,
    preparation_of,
)
from biosegment_trainer.registry.reference import Literals, read_configuration

_DESCRIPTIONS: Final = ("rdf", "bioimageio")
_LIBRARY: Final = "monai.networks.nets"
_WINDOW: Final = {2: 64, 3: 16}


def is_package(folder: Path) -> bool:
    """Whether a folder is a bioimage.io package."""
    return any((folder / f"{name}.yaml").is_file() for name in _DESCRIPTIONS)


def read_package(folder: Path, *, fallback_resolution_nm: float) -> ForeignBundle:
    """Read a package whose weights are a PyTorch state dict of a network of MONAI.

    Packages that bring the code of their network are refused: it would have to be run.

    Raises:
        NotFound: BUNDLE_FILE_MISSING.
        InvalidArgument: BAD_BUNDLE, NETWORK_NOT_ALLOWED, BAD_WEIGHTS.
        FailedPrecondition: EXTRA_MISSING.
    """
    _, description = read_configuration(folder, *_DESCRIPTIONS)
    # Only plain values: nothing in this format refers to other parts of it.
    plain = Literals({"description": description}).at("description")
    try:
        entry = plain["weights"]["pytorch_state_dict"]
        architecture = entry["architecture"]
        output = plain["outputs"][0]
    except (KeyError, IndexError, TypeError) as error:
        raise InvalidArgument(
            "BAD_BUNDLE", "the package has no weights as a PyTorch state dict; others cannot be fine-tuned"
        ) from error
    definition = _definition(architecture, entry)
    network, _, channels = allowed_network(definition)
    own, weights = _own(plain), _weights(folder, entry)
    model, remarks = _own_model(definition, weights, own), list[str]()
    if model is None:
        image = _first(plain.get("inputs"))
        preparation = preparation_of(image, output, network.spatial_dims)
        model, remarks = converted(ForeignNetwork(definition, weights, channel_names(output), preparation))
        remarks += [*input_remarks(image), *output_remarks(output, channels)]
    resolution = _resolution(plain)
    if resolution is None:
        resolution = fallback_resolution_nm
        remarks.append(f"its pixel size is not known; the project's {resolution:g} nm is assumed")
    bundle = ModelBundle(
        name=str(plain.get("name") or folder.name)[:200],
        version="1.0.0",
        model=model,
        working_resolution_nm=resolution,
        data_license=_terms(folder, plain, own),
        about={"description": str(plain.get("description", ""))[:2000], "authors": _authors(plain)},
        texts={name: text for name, text in texts_of(folder).items() if name in (TERMS, LICENCE)},
    )
    return ForeignBundle(bundle, tuple(remarks))


def _definition(architecture: Any, entry: Mapping[str, Any]) -> dict[str, Any]:
    # Format 0.5 has an object, 0.4 a dotted name with the arguments beside it.
    if isinstance(architecture, str):
        source, arguments = architecture, entry.get("kwargs", {})
    elif isinstance(architecture, dict) and "import_from" in architecture:
        source = f"{architecture['import_from']}.{architecture.get('callable')}"
        arguments = architecture.get("kwargs", {})
    else:
        source, arguments = "", {}
    if not source.startswith(f"{_LIBRARY}.") or not isinstance(arguments, dict):
        raise InvalidArgument(
            "NETWORK_NOT_ALLOWED",
            f"the package brings its own network or names {source[:100]!r}; only those "
            f"of {_LIBRARY} can be imported",
        )
    return {**arguments, "_target_": source}


def _own(plain: Mapping[str, Any]) -> dict[str, Any]:
    """What only BioSegment writes and reads."""
    config = plain.get("config")
    own = config.get("biosegment") if isinstance(config, dict) else None
    return own if isinstance(own, dict) else {}


def _own_model(
    definition: Mapping[str, Any], weights: Weights, own: Mapping[str, Any]
) -> NetworkModel | None:
    """The model of a package that we wrote, as it was: its slices stay apart, its classes keep their names.
    None for the packages of others.
    """
    names = own.get("classes")
    if not isinstance(names, list):
        return None
    network, count = NetworkConfig.from_network_def(definition)
    if len(names) != count or own.get("input_slices") != network.input_slices:
        raise InvalidArgument(
            "BAD_BUNDLE",
            f"config.biosegment has {len(names)} classes and {str(own.get('input_slices'))[:20]} slices, the "
            f"network {count} and {network.input_slices}; delete it to import the network without it",
        )
    shown = distinct([class_name(str(name), i) for i, name in enumerate(names, start=1)])
    model = NetworkModel(network, tuple(LabelClass(0, name) for name in shown), weights)
    model.build()
    return model


def _weights(folder: Path, entry: Mapping[str, Any]) -> dict[str, torch.Tensor]:
    source = entry.get("source")
    name = source if isinstance(source, str) else ""
    path = folder.joinpath(*PurePosixPath(name).parts)
    if not name or name.startswith("/") or ".." in PurePosixPath(name).parts or "://" in name:
        raise InvalidArgument("BAD_BUNDLE", f"the weights must be a file in the package, not {name[:100]!r}")
    if not path.is_file():
        raise NotFound("BUNDLE_FILE_MISSING", f"{name[:100]} is missing in the package")
    wanted = entry.get("sha256")
    if wanted and hashlib.sha256(path.read_bytes()).hexdigest() != wanted:
        raise InvalidArgument("BAD_WEIGHTS", f"{name[:100]} has another SHA-256 than the package says")
    return read_safetensors(path) if path.suffix == ".safetensors" else read_weights(path)


def _first(items: Any) -> Any:
    return items[0] if isinstance(items, list) and items else None


def _resolution(plain: Mapping[str, Any]) -> float | None:
    units = {"nanometer": 1.0, "micrometer": 1e3, "angstrom": 0.1}
    try:
        for axis in plain["inputs"][0]["axes"]:
            if axis.get("type") == "space" and axis.get("id") == "x" and axis.get("unit") in units:
                size = float(axis.get("scale", 1.0)) * units[axis["unit"]]
                return size if 0.1 <= size <= 1000 else None
    except (AttributeError, KeyError, IndexError, TypeError, ValueError):
        pass
    return None


def _terms(folder: Path, plain: Mapping[str, Any], own: Mapping[str, Any]) -> str:
    if isinstance(own.get("data_license"), str):
        return bounded_terms(own["data_license"])
    licence = plain.get("license")
    named = f"the package's own licence: {licence}" if isinstance(licence, str) and licence else ""
    return bounded_terms(named, terms_of(texts_of(folder), {}))


def _authors(plain: Mapping[str, Any]) -> str:
    people = plain.get("authors")
    names = [str(p.get("name")) for p in people if isinstance(p, dict)] if isinstance(people, list) else []
    return ", ".join(names)[:1000] or "not recorded"


def write_package(bundle: ModelBundle, target: Path) -> None:
    """Write a package as a zip file.

    Raises:
        FailedPrecondition: EXTRA_MISSING without `biosegment[bioimageio]`; NO_USABLE_CLASS for a pretrained
            model, which has nothing to predict.
        InvalidArgument: BAD_BUNDLE when the library finds the description wrong.
    """
    if not bundle.model.classes:
        raise FailedPrecondition(
            "NO_USABLE_CLASS",
            f"{bundle.name!r} is pretrained: it has no class, and such a package has nothing to predict; "
            "fine-tune it first, or export it as a bundle",
        )
    with tempfile.TemporaryDirectory(prefix="package-") as place:
        # Where the library keeps what it fetches. It asks for every URL in a description, so ours has none;
        # without its checks of files it would not hash them either.
        os.environ.setdefault("BIOIMAGEIO_CACHE_PATH", f"{place}/cache")
        try:
            import yaml
            from bioimageio.spec import InvalidDescr, load_description, save_bioimageio_package
        except ImportError as error:
            raise FailedPrecondition(
                "EXTRA_MISSING", "bioimage.io packages need bioimageio.core; install biosegment[bioimageio]"
            ) from error
        folder = Path(place) / "package"
        folder.mkdir()
        content = _described(bundle, folder)
        path = folder / "bioimageio.yaml"
        path.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
        found = load_description(path)
        if isinstance(found, InvalidDescr):
            summary = found.validation_summary.format()
            raise InvalidArgument("BAD_BUNDLE", f"bioimage.io refuses the package: {summary[:500]}")
        save_bioimageio_package(found, output_path=target)


def _described(bundle: ModelBundle, folder: Path) -> dict[str, Any]:
    """Write the files of a package; return its description."""
    model, facts = bundle.model, facts_of(bundle)
    network = model.network
    definition = network.network_def(len(model.classes))
    torch.save(model.weights, folder / "weights.pt")
    _write_example(model, folder)
    text = metadata_of(facts)
    (folder / "README.md").write_text(
        f"# {bundle.name}\n\n{text['description']}\n\n"
        "## Validation\n\nPredictions are to be checked against annotations of one's own data.\n\n"
        f"## Data licence\n\n{bundle.data_license or 'not recorded'}\n",
        encoding="utf-8",
    )
    plane = [{"type": "space", "id": axis} for axis in ("y", "x")]
    depth = [{"type": "space", "id": "z"}] if network.spatial_dims == 3 else []
    inputs, outputs = [], []
    for axis, stride in zip([*depth, *plane], network.stride[-network.spatial_dims :], strict=True):
        unit = {} if axis["id"] == "z" else {"unit": "nanometer", "scale": bundle.working_resolution_nm}
        inputs.append({**axis, **unit, "size": {"min": 2 * stride, "step": stride}})
        outputs.append({**axis, **unit, "size": {"tensor_id": "image", "axis_id": axis["id"]}})
    slices = [f"slice{number}" for number in range(network.input_slices)]
    return {
        "type": "model",
        "format_version": "0.5.3",
        "name": _title(bundle.name),
        "description": text["description"][:1024],
        "authors": [{"name": "not recorded"}],
        "cite": [{"text": "MONAI", "doi": "10.48550/arXiv.2211.02701"}],
        "documentation": "README.md",
        "tags": ["electron-microscopy", "segmentation", "monai"],
        "inputs": [
            {
                "id": "image",
                "axes": [{"type": "batch"}, {"type": "channel", "channel_names": slices}, *inputs],
                "test_tensor": {"source": "input.npy"},
                "data": {"type": "float32"},
                "preprocessing": [
                    {"id": "zero_mean_unit_variance", "kwargs": {"axes": ["y", "x"], "eps": 1e-6}},
                    {"id": "clip", "kwargs": {"min": -5.0, "max": 5.0}},
                ],
            }
        ],
        "outputs": [
            {
                "id": "probabilities",
                "axes": [
                    {"type": "batch"},
                    {"type": "channel", "channel_names": _identifiers(list(facts.channels.values()))},
                    *outputs,
                ],
                "test_tensor": {"source": "output.npy"},
                "data": {"type": "float32"},
                "postprocessing": [{"id": "softmax", "kwargs": {"axis": "channel"}}],
            }
        ],
        "weights": {
            "pytorch_state_dict": {
                "source": "weights.pt",
                "sha256": hashlib.sha256((folder / "weights.pt").read_bytes()).hexdigest(),
                "pytorch_version": torch.__version__.split("+")[0],
                "architecture": {
                    "import_from": _LIBRARY,
                    "callable": definition.pop("_target_"),
                    "kwargs": definition,
                },
            }
        },
        "config": {
            "biosegment": {
                "data_license": bundle.data_license,
                "classes": list(facts.classes),
                "input_slices": network.input_slices,
            }
        },
    }


def _title(name: str) -> str:
    """A name as the format wants it: of some kinds of characters, and at least five of them."""
    plain = re.sub(r"[^A-Za-z0-9_\- ()]", "_", name)[:100].strip()
    return plain if len(plain) >= 5 else f"BioSegment model {plain}".strip()


def _identifiers(names: list[str]) -> list[str]:
    """Names of channels as the format wants them: words that may name variables."""
    return [re.sub(r"\W", "_", name) if name else "channel" for name in names]


def _write_example(model: NetworkModel, folder: Path) -> None:
    """A test image and what the model, with all steps around it, answers."""
    network: NetworkConfig = model.network
    least = _WINDOW[network.spatial_dims]
    edges = [-(-max(least, 2 * s) // s) * s for s in network.stride[-network.spatial_dims :]]
    raw = np.random.default_rng(0).normal(120, 30, (1, network.input_slices, *edges)).astype(np.float32)
    mean = raw.mean((-2, -1), keepdims=True)
    image = ((raw - mean) / (raw.std((-2, -1), keepdims=True) + 1e-6)).clip(-5, 5)
    with torch.inference_mode():
        answer = torch.softmax(model.build()(torch.from_numpy(image)), dim=1).numpy()
    np.save(folder / "input.npy", raw)
    np.save(folder / "output.npy", answer)

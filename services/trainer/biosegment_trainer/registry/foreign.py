"""Reads bundles that others made, and turns them into ours: a network of an allowed family, checked tensors,
names of classes, and the texts that say under which terms.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import torch

from biosegment.errors import FailedPrecondition, InvalidArgument, NotFound
from biosegment_trainer.learning.bundle import (
    LICENCE,
    README,
    TERMS,
    ModelBundle,
    ModelLineage,
    checked_weights,
    facts_of,
    is_own,
    joined_terms,
    read_bundle,
    read_weights,
)
from biosegment_trainer.learning.bundle_text import licence_text, terms_text
from biosegment_trainer.learning.channel import with_input_channels, with_output_channels
from biosegment_trainer.learning.family import FAMILIES
from biosegment_trainer.learning.network import LabelClass, NetworkConfig, NetworkModel, Weights
from biosegment_trainer.registry.model import CLICKS
from biosegment_trainer.registry.preparation import Preparation
from biosegment_trainer.registry.reference import Literals, TrustedEvaluation, read_configuration

_BACKGROUND: Final = frozenset({"background", "bg", "back ground", "unlabeled", "unlabelled", "none", "0"})
_MAX_TEXT: Final = 100_000
_MAX_SHOWN: Final = 3
_MAX_TERMS: Final = 20_000
"""Characters of all terms together; the common licences are shorter."""
_CUT: Final = " ... (more did not fit: see where the bundle is from)"
_ABOUT: Final = (
    "description",
    "authors",
    "copyright",
    "data_source",
    "data_type",
    "references",
    "intended_use",
)


@dataclass(frozen=True, slots=True)
class ForeignBundle:
    """A bundle as we would have written it, and what a user should know of it."""

    bundle: ModelBundle
    remarks: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ForeignNetwork:
    """What a foreign description says.

    Attributes:
        definition: Of the network: literals only.
        weights: By name, as they were found.
        names: Meaning of the output channels that have a name.
        preparation: Of the images that it was trained on; None when nothing is known of it.
    """

    definition: Mapping[str, Any]
    weights: Weights
    names: Mapping[int, str]
    preparation: Preparation | None = None


def read_foreign(folder: Path, *, trusted: bool, fallback_resolution_nm: float) -> ForeignBundle:
    """Read a bundle of ours, or one in the layout of MONAI's Model Zoo.

    Args:
        folder: Its root.
        trusted: Evaluate `$` expressions of its network's definition, which is running its code.
        fallback_resolution_nm: Where it does not say at which pixel size it works.

    Raises:
        NotFound: BUNDLE_FILE_MISSING.
        InvalidArgument: BAD_BUNDLE, BUNDLE_NOT_TRUSTED, NETWORK_NOT_ALLOWED, BAD_WEIGHTS, CLICK_MODEL.
        FailedPrecondition: EXTRA_MISSING.
    """
    _, metadata = read_configuration(folder, "configs/metadata")
    if is_own(metadata):
        if metadata["biosegment"].get("role") == CLICKS:
            raise InvalidArgument(
                "CLICK_MODEL",
                f"{folder.name} holds a model that corrects masks with clicks, which comes with an installation; put "
                "it into the folder of shipped bundles",
            )
        return ForeignBundle(_own(folder), ())
    path, configuration = read_configuration(folder, "configs/inference", "configs/evaluate", "configs/train")
    evaluate = TrustedEvaluation(configuration, path) if trusted else None
    # What may not be built needs no weights.
    definition = _definition(configuration, evaluate)
    allowed_network(definition)
    preparation = Preparation.of(configuration)
    found = ForeignNetwork(definition, _weights(folder / "models"), _channel_names(metadata), preparation)
    resolution, note = _resolution(metadata, preparation, fallback_resolution_nm)
    model, remarks = converted(found)
    bundle = ModelBundle(
        name=str(metadata.get("name") or folder.name)[:200],
        version=_version(metadata.get("version")),
        model=model,
        working_resolution_nm=resolution,
        lineage=ModelLineage(),
        data_license=terms_of(texts_of(folder), metadata),
        about={key: metadata[key] for key in _ABOUT if isinstance(metadata.get(key), str)},
        texts=texts_of(folder),
    )
    return ForeignBundle(bundle, (*remarks, *note))


def _own(folder: Path) -> ModelBundle:
    """A bundle that we wrote, with what people wrote into its texts since."""
    bundle, texts = read_bundle(folder), texts_of(folder)
    terms = bounded_terms(bundle.data_license)
    if not terms:
        # We ask to replace the texts that say that nothing is known.
        facts = facts_of(bundle)
        ours = {TERMS: terms_text(facts), LICENCE: licence_text(facts)}
        terms = terms_of({k: v for k, v in texts.items() if _first(v) != _first(ours.get(k, ""))}, {})
    return replace(bundle, data_license=terms, texts=texts)


def _first(text: str) -> str:
    return text.strip().partition("\n")[0]


def allowed_network(definition: Mapping[str, Any]) -> tuple[NetworkConfig, int, int]:
    """The network for one input channel, and how many input and output channels its definition has.

    Raises:
        InvalidArgument: NETWORK_NOT_ALLOWED.
    """
    network, classes = NetworkConfig.from_network_def({**definition, "in_channels": 1})
    inputs = definition.get("in_channels")
    if type(inputs) is not int or not 1 <= inputs <= 64:
        raise InvalidArgument("NETWORK_NOT_ALLOWED", f"network_def has {str(inputs)[:80]!r} in_channels")
    return network, inputs, classes + 1


def converted(found: ForeignNetwork) -> tuple[NetworkModel, list[str]]:
    """A foreign network as ours: one image with axes z, y, x comes in, and channel 0 of what goes out is the
    background.

    Raises:
        InvalidArgument: NETWORK_NOT_ALLOWED, BAD_WEIGHTS.
    """
    network, inputs, outputs = allowed_network(found.definition)
    weights = _fitting(network, found.weights, inputs, outputs)
    remarks = []
    if inputs > 1:
        remarks.append(f"its {inputs} input channels were added up to one: all of them see the same image")
    names = [class_name(found.names.get(i, ""), i) for i in range(outputs)]
    if outputs > 1 and found.names.get(0, "background").strip().lower() in _BACKGROUND:
        names = names[1:]
    else:
        weights = _with_background(network, weights, outputs)
        remarks.append("it tells classes apart without a background channel; one that stays at 0 was added")
    if network.has_window_norm:
        remarks.append("its norm measures the window that it sees: predictions may show seams between tiles")
    if found.preparation is not None:
        network, weights, notes = _in_our_axes(network, weights, found.preparation)
        remarks += [*notes, *found.preparation.remarks]
    classes = tuple(LabelClass(0, name) for name in distinct(names))
    model = NetworkModel(network, classes, weights)
    model.build()
    return model, remarks


def _in_our_axes(
    network: NetworkConfig, weights: Weights, preparation: Preparation
) -> tuple[NetworkConfig, Weights, list[str]]:
    """A network for arrays with axes z, y, x that answers as the given one does to arrays with its own axes, where
    they are known and its family allows.
    """
    family, dims = FAMILIES[network.family], network.spatial_dims
    order, ours = preparation.order(dims), tuple(range(dims))
    if order == ours:
        return network, weights, []
    shown = ", ".join("zyx"[-dims:])
    if not order:
        unknown = (
            f"it treats its axes differently and does not say which they are; they were taken for {shown}"
        )
        return network, weights, [unknown] if family.is_anisotropic(network.arguments) else []
    theirs = ", ".join("zyx"[-dims:][order.index(axis)] for axis in ours)
    if not family.can_turn(network.arguments):
        fixed = (
            f"its axes are {theirs}, and this kind of {network.family} cannot be turned: it sees images in an order "
            "that it was not trained on; fine-tune it first"
        )
        return network, weights, [fixed]
    turned = replace(network, arguments=family.turned(network.arguments, order))
    # Of these families all weights with so many axes are kernels: two axes of channels, then those of the image.
    kernels = (0, 1, *(2 + axis for axis in order))
    moved = {n: t.permute(kernels).contiguous() if t.ndim == len(kernels) else t for n, t in weights.items()}
    return turned, moved, [f"its axes are {theirs}: its kernels and strides were turned to {shown}"]


def _fitting(network: NetworkConfig, found: Weights, inputs: int, outputs: int) -> Weights:
    """Weights under the names of our network, for one input channel."""
    family = FAMILIES[network.family]
    module = network.build(outputs - 1)
    expected = module.state_dict()
    weights = {name: tensor for name, tensor in found.items() if not family.absent.fullmatch(name)}
    # As data-parallel training and Lightning leave it.
    while not set(weights) & set(expected) and (shorter := _without_prefix(weights)):
        weights = shorter
    weights = {name: tensor for name, tensor in weights.items() if not family.absent.fullmatch(name)}
    # One tensor under two names, of which older versions wrote one.
    twins: dict[int, list[str]] = {}
    for name, tensor in module.state_dict(keep_vars=True).items():
        twins.setdefault(id(tensor), []).append(name)
    for names in twins.values():
        known = [name for name in names if name in weights]
        weights |= {name: weights[known[0]] for name in names if known and name not in weights}
    for name, tensor in expected.items():
        if name.endswith("num_batches_tracked") and name not in weights:
            weights[name] = tensor
    missing, foreign = sorted(set(expected) - set(weights)), sorted(set(weights) - set(expected))
    if missing or foreign:
        raise InvalidArgument(
            "BAD_WEIGHTS",
            f"the weights are not those of the network that the bundle names: {_shown(missing)} missing, "
            f"{_shown(foreign)} in excess; correct its network_def, or save the network's own weights alone",
        )
    for name, tensor in weights.items():
        if inputs > 1 and family.inputs.fullmatch(name) and tensor.ndim > 1 and tensor.shape[1] == inputs:
            weights[name] = with_input_channels(tensor, 1)
        if weights[name].shape != expected[name].shape:
            raise InvalidArgument(
                "BAD_WEIGHTS", f"{name} is {tuple(tensor.shape)}, not {tuple(expected[name].shape)}"
            )
    return {name: weights[name].clone() for name in expected}


def _without_prefix(weights: Weights) -> Weights:
    """Weights without the first part of their names that most of them share; the others keep theirs. Empty when there
    is no such part, or names would clash.
    """
    heads = Counter(name.partition(".")[0] for name in weights if "." in name)
    head, count = next(iter(heads.most_common(1)), ("", 0))
    found = {name.removeprefix(f"{head}."): tensor for name, tensor in weights.items()}
    return found if 2 * count > len(weights) == len(found) else {}


def _shown(names: list[str]) -> str:
    """How many there are, and a few of them."""
    few = ", ".join(repr(name[:100]) for name in names[:_MAX_SHOWN])
    return f"{len(names)} ({few}{', ...' if len(names) > _MAX_SHOWN else ''})" if names else "none"


def _with_background(network: NetworkConfig, weights: Weights, outputs: int) -> Weights:
    """A head with one channel more, the first, whose logit is always 0: a softmax over it and one class is
    the sigmoid of that class.

    Raises:
        InvalidArgument: NETWORK_NOT_ALLOWED when a norm measures the output channels together: one more, whatever it
            holds, would change what the others say.
    """
    family, result = FAMILIES[network.family], Weights()
    for name, layer in network.build(outputs - 1).named_modules():
        if isinstance(layer, torch.nn.GroupNorm) and family.class_axes(f"{name}.weight", 1) is not None:
            raise InvalidArgument(
                "NETWORK_NOT_ALLOWED",
                "it has no background channel and cannot be given one: the group norm of its head measures all output "
                "channels together, and its answers would change; train it with a background channel, or with batch "
                "or instance norm",
            )
    for name, tensor in network.build(outputs).state_dict().items():
        axes = family.class_axes(name, tensor.ndim)
        if not axes:
            result[name] = weights[name]
            continue
        silent = torch.zeros_like(tensor) if tensor.ndim > 1 or name.endswith("conv.bias") else tensor
        result[name] = with_output_channels(weights[name], silent, axes, [-1, *range(outputs)], None)
    return result


def _definition(configuration: Mapping[str, Any], evaluate: Any) -> dict[str, Any]:
    for key in ("network_def", "network", "net"):
        value = configuration.get(key)
        if isinstance(value, Mapping) or (isinstance(value, str) and (key == "network_def" or evaluate)):
            found = Literals(configuration, evaluate).at(key)
            if isinstance(found, dict):
                return {k: v for k, v in found.items() if k not in ("_desc_", "_mode_")}
    raise InvalidArgument("BAD_BUNDLE", "the configuration has no network_def; it must name the network")


def _weights(folder: Path) -> Weights:
    if (folder / "model.pt").is_file():
        return read_weights(folder / "model.pt")
    files = sorted(p for ending in ("*.safetensors", "*.pt", "*.pth") for p in folder.glob(ending))
    if not files:
        raise NotFound("BUNDLE_FILE_MISSING", f"{folder} has neither model.pt nor model.safetensors")
    if len(files) > 1:
        raise InvalidArgument(
            "BAD_BUNDLE", f"the weights may be in any of {[p.name for p in files[:5]]}; keep one, as model.pt"
        )
    return read_safetensors(files[0]) if files[0].suffix == ".safetensors" else read_weights(files[0])


def read_safetensors(path: Path) -> Weights:
    """Tensors of a safetensors file; InvalidArgument BAD_WEIGHTS, FailedPrecondition EXTRA_MISSING."""
    try:
        from safetensors.torch import load_file
    except ImportError as error:
        raise FailedPrecondition(
            "EXTRA_MISSING", "reading safetensors needs the package of that name; install biosegment[trainer]"
        ) from error
    try:
        return checked_weights(load_file(path, device="cpu"), str(path))
    except InvalidArgument:
        raise
    # Damaged files make the reader fail in many ways.
    except Exception as error:
        raise InvalidArgument("BAD_WEIGHTS", f"{path} cannot be read: {str(error)[:300]}") from error


def _channel_names(metadata: Mapping[str, Any]) -> dict[int, str]:
    try:
        outputs = metadata["network_data_format"]["outputs"]
        one = outputs["pred"] if "pred" in outputs else next(iter(outputs.values()))
        return {int(channel): str(name) for channel, name in one["channel_def"].items()}
    except (AttributeError, KeyError, StopIteration, TypeError, ValueError):
        return {}


def class_name(name: str, channel: int) -> str:
    """A name of a class from that of a stranger's output channel."""
    return re.sub(r"\s+", " ", name).strip()[:100] or f"channel {channel}"


def distinct(names: list[str]) -> list[str]:
    """Names that differ by more than case: a number follows those that are there already."""
    taken = {name.casefold() for name in names}
    seen: set[str] = set()
    found = []
    for name in names:
        shown, number = name, 2
        if name.casefold() in seen:
            while (shown := f"{name} ({number})").casefold() in taken:
                number += 1
        seen.add(shown.casefold())
        taken.add(shown.casefold())
        found.append(shown)
    return found


def _resolution(
    metadata: Mapping[str, Any], preparation: Preparation, fallback: float
) -> tuple[float, list[str]]:
    """In-plane pixel size in nm: said outright, or by the spacing (mm) that its preprocessing makes."""
    for key in ("working_resolution_nm", "pixel_size_nm"):
        value = metadata.get(key)
        if isinstance(value, int | float) and 0.1 <= value <= 1000:
            return float(value), []
    # MONAI counts in mm.
    sizes = [size * 1e6 for size in preparation.in_plane]
    if sizes and all(0.1 <= size <= 1000 for size in sizes):
        return sum(sizes) / 2, []
    return fallback, [f"its pixel size is not known; the project's {fallback:g} nm is assumed"]


def _version(value: object) -> str:
    return value if isinstance(value, str) and re.fullmatch(r"\d+(\.\d+){0,3}", value) else "1.0.0"


def texts_of(folder: Path) -> dict[str, str]:
    """The texts of a bundle that are kept as they are, as far as they are there."""
    found = {}
    for name, files in {
        README: (README, "README.md"),
        TERMS: (TERMS, "docs/data_licence.txt"),
        LICENCE: (LICENCE, "LICENSE.txt", "LICENSE.md", "docs/LICENSE"),
    }.items():
        for file in files:
            if (folder / file).is_file():
                found[name] = (folder / file).read_bytes()[:_MAX_TEXT].decode("utf-8", "replace")
                break
    return found


def terms_of(texts: Mapping[str, str], metadata: Mapping[str, Any]) -> str:
    """Whatever a foreign bundle states of the terms of its data and of its weights: all of it binds what is
    trained from them.
    """
    stated = [str(metadata.get(key) or "") for key in ("data_license", "data_licence")]
    licence = _one_term(texts.get(LICENCE, ""))
    own = f"the bundle's own licence: {licence}" if licence else ""
    return bounded_terms(*stated, _one_term(texts.get(TERMS, "")), own)


def bounded_terms(*terms: str) -> str:
    """`joined_terms`, not longer than what a bundle holds."""
    found = joined_terms(*terms)
    return found if len(found) <= _MAX_TERMS else found[: _MAX_TERMS - len(_CUT)] + _CUT


def _one_term(text: str) -> str:
    # Semicolons would divide it into terms.
    return re.sub(r"\s+", " ", text).replace(";", ",").strip()

"""Between the messages of edits of objects and the domain."""

from __future__ import annotations

from biosegment.api.datastore.v1alpha1 import instance_pb2 as pb
from biosegment.errors import InvalidArgument
from biosegment.rpc.geometry import index_from_proto, region_from_proto, region_to_proto
from biosegment.volume import Index
from biosegment_datastore.convert import timestamp
from biosegment_datastore.instances.catalogue import MAX_ID
from biosegment_datastore.instances.check import Wish
from biosegment_datastore.instances.edit import Edit, EditKind


def wish_from_proto(message: pb.InstanceEdit) -> Wish:
    """Raises InvalidArgument BAD_EDIT, BAD_REGION, BAD_POSITION."""
    change = message.WhichOneof("change")
    match change:
        case "merge":
            wish = Wish(EditKind.MERGE, _into_first(message.merge), message.comment)
        case "split":
            split = message.split
            wish = Wish(
                EditKind.SPLIT,
                (split.instance,),
                message.comment,
                region=region_from_proto(split.region) if split.HasField("region") else None,
                seeds=tuple(
                    tuple(position_of(index_from_proto(p)) for p in part.points) for part in split.seeds
                ),
            )
        case "delete":
            wish = Wish(EditKind.DELETE, tuple(message.delete.instances), message.comment)
        case "reassign":
            reassign = message.reassign
            if reassign.HasField("instance") and not reassign.instance:
                raise InvalidArgument(
                    "BAD_EDIT",
                    "voxels cannot be reassigned to 0, background: make them a new object and delete that",
                )
            wish = Wish(
                EditKind.REASSIGN,
                (),
                message.comment,
                target=reassign.instance,
                region=region_from_proto(reassign.region) if reassign.HasField("region") else None,
            )
        case "reclassify":
            move = message.reclassify
            wish = Wish(
                EditKind.RECLASSIFY, tuple(move.instances), message.comment, class_value=move.class_value
            )
        case _:
            raise InvalidArgument(
                "BAD_EDIT", "say what is to be done: merge, split, delete, reassign or reclassify"
            )
    if too_large := [each for each in wish.known if each > MAX_ID]:
        raise InvalidArgument("BAD_EDIT", f"id {too_large[0]} is larger than any object's: {MAX_ID} at most")
    return wish


def position_of(position: Index) -> Index:
    """InvalidArgument BAD_POSITION when it is negative."""
    if min(position) < 0:
        raise InvalidArgument("BAD_POSITION", f"position {tuple(position)} is negative; zyx begin at 0")
    return position


def edit_to_proto(edit: Edit) -> pb.InstanceEdit:
    step = edit.step
    message = pb.InstanceEdit(
        name=edit.name,
        sequence=step.sequence,
        author=edit.author,
        create_time=timestamp(edit.create_time_us),
        comment=edit.comment,
        reverted=bool(edit.revert_time_us),
    )
    region = region_to_proto(step.region) if step.region is not None else None
    match step.kind:
        case EditKind.MERGE:
            message.merge.CopyFrom(pb.InstanceMerge(instances=step.ids, into=step.target))
        case EditKind.SPLIT:
            split = pb.InstanceSplit(instance=step.ids[0], region=region, new_instances=step.new_ids)
            message.split.CopyFrom(split)
        case EditKind.DELETE:
            message.delete.CopyFrom(pb.InstanceDelete(instances=step.ids))
        case EditKind.REASSIGN:
            new = step.new_ids[0] if step.new_ids else 0
            reassign = pb.InstanceReassign(
                region=region, instance=step.target, sources=step.ids, new_instance=new
            )
            message.reassign.CopyFrom(reassign)
        case EditKind.RECLASSIFY:
            move = pb.InstanceReclassify(instances=step.ids, class_value=step.class_value)
            message.reclassify.CopyFrom(move)
        case EditKind.REVERT:
            message.reverts = f"{edit.layer}/edits/{edit.reverts}"
    return message


def _into_first(merge: pb.InstanceMerge) -> tuple[int, ...]:
    ids = tuple(merge.instances)
    if not merge.into:
        return ids
    if merge.into not in ids:
        raise InvalidArgument(
            "BAD_EDIT", f"objects are merged into one of them; {merge.into} is not among {list(ids)[:20]}"
        )
    return (merge.into, *(each for each in ids if each != merge.into))

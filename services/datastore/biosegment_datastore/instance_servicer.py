"""InstanceEditService over gRPC: messages in, use case, messages out."""

from __future__ import annotations

from typing import Any, Final

from biosegment.api.datastore.v1alpha1 import instance_pb2 as pb
from biosegment.api.datastore.v1alpha1 import instance_pb2_grpc
from biosegment.ids import parse_name
from biosegment.rpc import current_principal
from biosegment.rpc.geometry import index_from_proto
from biosegment_datastore.convert_annotation import is_zlib
from biosegment_datastore.convert_instance import edit_to_proto, position_of, wish_from_proto
from biosegment_datastore.instances.service import InstanceService

INSTANCE_EDIT_SERVICE: Final = "biosegment.api.datastore.v1alpha1.InstanceEditService"
_LAYER: Final = "projects/*/volumes/*/layers/*"
_EDIT: Final = "projects/*/volumes/*/layers/*/edits/*"


class InstanceEditServicer(instance_pb2_grpc.InstanceEditServiceServicer):
    """Serves edits of objects."""

    def __init__(self, instances: InstanceService) -> None:
        self._instances = instances

    async def CommitInstanceEdit(
        self, request: pb.CommitInstanceEditRequest, context: Any
    ) -> pb.CommitInstanceEditResponse:
        edit = await self._instances.commit(
            current_principal(),
            _layer(request.parent),
            wish_from_proto(request.edit),
            request.labels,
            is_zlib(request.encoding),
            request.request_id,
            request.base_sequence if request.HasField("base_sequence") else None,
        )
        return pb.CommitInstanceEditResponse(edit=edit_to_proto(edit))

    async def RevertInstanceEdit(
        self, request: pb.RevertInstanceEditRequest, context: Any
    ) -> pb.RevertInstanceEditResponse:
        layer, edit_id = _edit(request.name)
        edit = await self._instances.revert(current_principal(), layer, edit_id, request.request_id)
        return pb.RevertInstanceEditResponse(edit=edit_to_proto(edit))

    async def GetInstanceEdit(
        self, request: pb.GetInstanceEditRequest, context: Any
    ) -> pb.GetInstanceEditResponse:
        layer, edit_id = _edit(request.name)
        edit, labels = await self._instances.get(current_principal(), layer, edit_id, request.with_labels)
        return pb.GetInstanceEditResponse(edit=edit_to_proto(edit), labels=labels)

    async def ListInstanceEdits(
        self, request: pb.ListInstanceEditsRequest, context: Any
    ) -> pb.ListInstanceEditsResponse:
        page = await self._instances.list(
            current_principal(),
            _layer(request.parent),
            request.instance,
            request.after_sequence,
            request.page_size,
            request.page_token,
        )
        items = [edit_to_proto(item) for item in page.items]
        return pb.ListInstanceEditsResponse(edits=items, next_page_token=page.next_token)

    async def GetInstanceAt(self, request: pb.GetInstanceAtRequest, context: Any) -> pb.GetInstanceAtResponse:
        instance, stored, sequence = await self._instances.at(
            current_principal(), _layer(request.parent), position_of(index_from_proto(request.position))
        )
        return pb.GetInstanceAtResponse(instance=instance, stored_instance=stored, sequence=sequence)


def _layer(name: str) -> tuple[str, str, str]:
    project_id, volume_id, layer_id = parse_name(name, _LAYER)
    return project_id, volume_id, layer_id


def _edit(name: str) -> tuple[tuple[str, str, str], str]:
    project_id, volume_id, layer_id, edit_id = parse_name(name, _EDIT)
    return (project_id, volume_id, layer_id), edit_id

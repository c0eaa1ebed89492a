"""Everything that viewers read: OME-Zarr, tiles and thumbnails, with a token or a link, and Neuroglancer itself."""

from __future__ import annotations

from contextlib import AsyncExitStack
from typing import Final

from biosegment.storage.arrays import Arrays
from biosegment.storage.objects import Objects
from biosegment_gateway.admission import Admission
from biosegment_gateway.datastore_client import DatastoreClient
from biosegment_gateway.http.link import LinkEndpoint
from biosegment_gateway.http.neuroglancer import NeuroglancerEndpoint, client_folder
from biosegment_gateway.http.tile import TileEndpoint
from biosegment_gateway.http.zarr import ZarrEndpoint
from biosegment_gateway.ports import Accounts
from biosegment_gateway.settings import GatewaySettings
from biosegment_gateway.viewing.exhibit import Exhibition
from biosegment_gateway.viewing.link import ViewLinks
from biosegment_gateway.viewing.tile_reader import TileReader
from biosegment_gateway.viewing.voxels import Voxels
from biosegment_gateway.viewing.zarr import ZarrReader

_CHUNK_CACHE_BYTES: Final = 128 << 20
"""Of decoded voxels: who walks through slices finds sixteen of them in the same chunks."""


def open_viewing(
    settings: GatewaySettings,
    stack: AsyncExitStack,
    datastore: DatastoreClient,
    objects: Objects,
    accounts: Accounts,
    admission: Admission,
) -> tuple[LinkEndpoint, ZarrEndpoint, TileEndpoint, NeuroglancerEndpoint]:
    """What serves viewers; closed with the stack."""
    exhibition = Exhibition(datastore)
    voxels = Voxels(Arrays(settings, _CHUNK_CACHE_BYTES), datastore)
    tiles = TileReader(exhibition, voxels, settings.tile_cache_bytes)
    stack.push_async_callback(tiles.close)
    zarr = ZarrEndpoint(ZarrReader(exhibition, objects, datastore, voxels))
    viewer = NeuroglancerEndpoint(client_folder())
    links = ViewLinks.with_key_of(
        settings.signing_key_file, exhibition, accounts, int(settings.view_link_max_s)
    )
    linked = LinkEndpoint(
        links, exhibition, zarr, admission, public_url=settings.public_url, has_viewer=viewer.is_there
    )
    # Links first: the addresses of volumes would match theirs too.
    return linked, zarr, TileEndpoint(tiles), viewer

"""gRPC as every BioSegment process speaks it: `server`, `channel`, `errors`, `stream`.

A servicer asks `current_principal()` who calls and hands the answer to its use case; nothing below the
servicer knows about gRPC.
"""

from biosegment.rpc.call import current_principal, current_request_id

__all__ = ["current_principal", "current_request_id"]

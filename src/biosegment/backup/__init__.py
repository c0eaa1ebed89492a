"""Backups of a whole platform, made while it runs, and their way back onto an empty machine.

A target is a folder or a bucket that holds any number of snapshots, which share their objects:

    objects/{2 digits}/{sha256}                 content of the object storage, once however often it occurs
    snapshots/{id}/rows/{service}/{table}-{n}   rows, as JSON lines
    snapshots/{id}/objects-{n}                  which key had which content
    snapshots/{id}/manifest.json                written last: without it there is no snapshot
    lock                                        held by the backup or the pruning that is under way

The rows of all services are read in one transaction for each database, all begun within moments, those that refer to
others first: sampler, trainer, datastore, gateway. The objects that they refer to are immutable and are copied
afterwards; until then a hold in the datastore's database keeps its collector from removing any.
"""

"""For a MONAI Label server of one's own: a project's volumes and annotations as its data store.

from biosegment.monailabel import BiosegmentDatastore

class MyApp(MONAILabelApp):
    def init_datastore(self):
        return BiosegmentDatastore("http://127.0.0.1:7311/monailabel/em", token, folder)
"""

from biosegment.monailabel.datastore import BiosegmentDatastore

__all__ = ["BiosegmentDatastore"]

"""What the datastore keeps in its database."""

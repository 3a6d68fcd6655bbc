"""Pictures for training: importers, snapshots, and what is checked of them."""

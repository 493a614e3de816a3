"""The artifact between training and production: a folder of plain files, described and hashed by its manifest."""

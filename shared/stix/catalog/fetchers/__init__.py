"""One module per cloud: its own price API into ``CatalogRow``. ``registry`` lists them."""

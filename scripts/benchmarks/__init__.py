"""What the package reaches, measured: one module a kind of measurement, and the document made of the results."""

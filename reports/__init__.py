"""Generate the pages from result files. The input is files that match ``schema/``, never the library or the suite."""

"""One vocabulary for both sides: graphs, grids, and arithmetic on codes. Imports nothing else of qdebug."""

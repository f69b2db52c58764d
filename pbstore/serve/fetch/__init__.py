"""Getting what is not here: from peers, from upstream, once for all who wait, within a capacity."""

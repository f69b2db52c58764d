"""One slot, as pure functions: tables of delay, order, timeline, overlap, what an update takes."""

"""From values to placements that fit: greedy, exchanges, tables of few nodes, values of copies."""

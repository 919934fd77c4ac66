"""Examples that a seed draws: composites of cut-outs, cards on photographs, roads."""

"""Labels that a model proposes, which pictures to label next, and which labels are wrong."""

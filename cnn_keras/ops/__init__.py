"""Operations on tensors and arrays that layers, losses and readers share: boxes, anchors, regions, resizing."""

"""Detection and segmentation by MMEngine's Runner: the parts that both tasks share."""

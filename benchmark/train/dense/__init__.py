"""Detection and segmentation, through OpenMMLab's packages."""

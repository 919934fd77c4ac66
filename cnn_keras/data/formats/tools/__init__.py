"""The own formats of annotation tools: LabelMe, Label Studio, Supervisely and VGG's Image Annotator."""

"""To learn from: convolution in NumPy, fixed filters, receptive fields, model profiles, visualization."""

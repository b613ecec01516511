"""From encoded bytes to uint8 pixels: the one preprocessing path of training and inference."""

import albumentations as A
import numpy as np
from ffcv.transforms import NormalizeImage
from nvidia.dali import fn

img_norm_cfg = dict(mean=[103.53, 116.28, 123.675], std=[57.375, 57.12, 58.395], to_rgb=True)
data_preprocessor = dict(
    mean=[125.307, 122.961, 113.8575], std=[51.5865, 50.847, 51.255], to_rgb=False
)
album = A.Normalize(mean=(123.675, 116.28, 103.53), std=(58.395, 57.12, 57.375))
raw = A.Normalize(mean=(123.675, 116.28, 103.53), std=(58.395, 57.12, 57.375), max_pixel_value=1.0)
ffcv = NormalizeImage(np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225]), np.float32)
ffcv_right = NormalizeImage(
    np.array([0.485, 0.456, 0.406]) * 255, np.array([0.229, 0.224, 0.225]) * 255, np.float32
)
dali = fn.crop_mirror_normalize(images, mean=[0.485, 0.456, 0.406], std=[0.229, 0.224, 0.225])
cfg.MODEL.PIXEL_MEAN = [103.53, 116.28, 123.675]
cfg.MODEL.PIXEL_STD = [58.395, 57.12, 57.375]
